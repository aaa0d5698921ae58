"""Where a request comes from: host name, and protection against forged requests of other sites (CSRF). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_PORTS: Final = {"http": 80, "https": 443}


def is_own_host(host: str, url: str) -> bool:
    """Whether the header `Host` is that of `portal.url`; the scheme's own port may be left out.

    >>> is_own_host("corewatch.example:443", "https://corewatch.example/portal"), is_own_host("evil.example", "https://corewatch.example")
    (True, False)
    """
    parts = urlsplit(url)
    try:
        asked = urlsplit(f"//{host}")
        port = asked.port
    except ValueError:
        return False
    if not asked.hostname or asked.username is not None or asked.path or asked.query or asked.fragment:
        return False
    default = _PORTS[parts.scheme]
    return (asked.hostname, port or default) == (parts.hostname, parts.port or default)


def origin_of(url: str) -> str:
    """Origin of an address, as browsers send it: without the scheme's own port.

    >>> origin_of("https://Corewatch.example:443/portal")
    'https://corewatch.example'
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    own = parts.port is None or parts.port == _PORTS[parts.scheme]
    return f"{parts.scheme}://{host}" if own else f"{parts.scheme}://{host}:{parts.port}"


def is_forged(method: str, headers: Mapping[str, str], url: str) -> bool:
    """Whether a request may have been made by a page of another site, so that it must change nothing.

    Browsers send `Sec-Fetch-Site` to https and loopback addresses, and `Origin` with every unsafe method; pages cannot set either.
    A request with neither is no browser's, and has no business with a cookie.
    """
    if method in SAFE_METHODS:
        return False
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site != "same-origin"
    return headers.get("origin") != origin_of(url)


def safe_target(target: str) -> str:
    """A path of the portal to go to after sign-in, or `/` for anything else: no other site, no scheme, no control characters.

    >>> safe_target("/cases/c1?tab=2"), safe_target("//evil.example"), safe_target("/\\\\evil.example"), safe_target("https://evil")
    ('/cases/c1?tab=2', '/', '/', '/')
    """
    plain = target.isascii() and target.isprintable() and " " not in target and "\\" not in target and len(target) <= 500
    if not plain or not target.startswith("/") or target.startswith(("//", "/login", "/logout")):
        return "/"
    return target
