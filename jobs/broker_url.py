"""Judges and completes the broker's URL, without connecting to it.

Kombu, which uses the URL, knows more forms than corewatch supports; and of a form that it does not know it makes another one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlencode, urlsplit

import redis
from kombu.utils.url import parse_url

_FORM: Final = "write redis://:password@host:6379/0, rediss:// for TLS, or redis+socket:///path/of/redis.sock"
_SUPPORTED: Final = frozenset({"redis", "rediss", "redis+socket"})
_RIGHT_FORM: Final = {
    "unix": "redis+socket",
    "redis+unix": "redis+socket",
    "redis+tls": "rediss",
    "valkey": "redis",
    "valkeys": "rediss",
}


def broker_url_problem(url: str) -> tuple[str, str] | None:
    """Why corewatch cannot use the URL, and what to write instead; None if it can.

    >>> broker_url_problem("unix:///run/redis.sock")
    ('unix:// is not supported', 'write redis+socket:///run/redis.sock')
    >>> broker_url_problem("rediss://:secret@redis.clinic.example:6379/0") is None
    True
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "has no scheme", _FORM
    if scheme in _RIGHT_FORM:
        place = rest.rpartition("@")[2]  # a message shows no password
        return f"{scheme}:// is not supported", f"write {_RIGHT_FORM[scheme]}://{place}"
    if scheme not in _SUPPORTED:
        return f"{scheme}:// is not supported", _FORM
    if url.count("://") > 1 or ";" in url:
        return "names several brokers", _FORM
    try:
        parts = urlsplit(url)
        port, values = parts.port, parse_url(url)
    except ValueError as error:
        return f"is no URL ({type(error).__name__})", f"{_FORM}; write / : @ # in a password as %2F %3A %40 %23"
    if scheme == "redis+socket":
        return None if len(parts.path) > 1 and not parts.hostname else ("names no socket", _FORM)
    if not parts.hostname or port == 0:
        return "names no host" if not parts.hostname else "0 is no port", _FORM
    if parts.fragment or (values.get("virtual_host") or "0").strip("/").isdigit() is False:
        return "ends in no number of a Redis database", f"{_FORM}; write / : @ # in a password as %2F %3A %40 %23"
    return None


def redis_client(url: str, limit_s: float) -> redis.Redis:
    """Client for one look at the Redis of the broker's URL; it waits `limit_s` for a connection and for an answer.

    Raises
    ------
    ValueError
        The URL is none of a Redis.
    """
    parts = urlsplit(url)
    if parts.scheme == "redis+socket":  # kombu's form of what redis-py calls unix://
        database = parse_qs(parts.query).get("virtual_host", ["0"])[0]
        url = parts._replace(scheme="unix", query=urlencode({"db": database})).geturl()
    return redis.Redis.from_url(url, socket_connect_timeout=limit_s, socket_timeout=limit_s)


def write_problem(url: str, limit_s: float) -> tuple[str, str | None]:
    """Version of the Redis at the broker's URL, and why it takes no work; None if it takes some.

    Raises
    ------
    redis.RedisError, OSError, ValueError
        It does not answer, rejects the login or the certificate, or the URL is none of a Redis.
    """
    with redis_client(url, limit_s) as client:
        version = str(client.info("server").get("redis_version", "unknown"))
        try:
            client.set("corewatch.doctor", "1", ex=1)
        except redis.exceptions.ReadOnlyError:
            return version, "it is a read-only replica"
        except redis.exceptions.OutOfMemoryError:
            return version, "its memory is full (maxmemory)"
        except redis.exceptions.ResponseError as error:
            return version, f"it refuses to write ({str(error).split()[0]})"
        return version, None


def with_verified_tls(url: str, authority: Path | None) -> str:
    """A `rediss://` URL whose users verify the server's certificate and its name; another URL as it is.

    What the URL itself says about that stays: `?ssl_cert_reqs=none` turns it off.

    >>> with_verified_tls("rediss://redis:6379/0", Path("/etc/ca.pem"))
    'rediss://redis:6379/0?ssl_cert_reqs=required&ssl_check_hostname=true&ssl_ca_certs=%2Fetc%2Fca.pem'
    """
    parts = urlsplit(url)
    if parts.scheme != "rediss":
        return url
    said = parse_qs(parts.query)
    verified = {"ssl_cert_reqs": "required", "ssl_check_hostname": "true"}
    if said.get("ssl_cert_reqs", ["required"])[0].lower() in {"none", "cert_none"}:
        verified = {"ssl_check_hostname": "false"}
    elif authority is not None:
        verified["ssl_ca_certs"] = str(authority)
    query = urlencode({name: value for name, value in verified.items() if name not in said})
    return parts._replace(query="&".join(filter(None, (parts.query, query)))).geturl()
