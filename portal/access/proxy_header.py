"""Sign-in by a header of a trusted reverse proxy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from starlette.datastructures import Headers

from config.portal_access import ProxyLoginSettings
from corewatch.roles import Role
from foundation.addresses import host_matches, parse_address
from portal.access.principal import Principal, SignIn

LONGEST_LOGIN: Final = 100
_LONGEST_HEADER: Final = 2000


def is_trusted_proxy(peer: str, proxies: Sequence[str]) -> bool:
    """Whether the TCP peer itself is one of `portal.proxies` (addresses or networks). Names are not resolved."""
    address = parse_address(peer)
    if address is None:
        return False
    return any(host_matches(proxy, address, lambda _name: frozenset()) for proxy in proxies)


def roles_of_groups(groups: Iterable[str], roles: Mapping[str, Sequence[Role]]) -> frozenset[Role]:
    """Roles of all groups together.

    >>> sorted(roles_of_groups(["stroke", "staff"], {"stroke": [Role.VIEWER]}))
    [<Role.VIEWER: 'viewer'>]
    """
    return frozenset(role for group in groups for role in roles.get(group, ()))


def principal_of_header(headers: Headers, settings: ProxyLoginSettings) -> Principal | None:
    """Whom the proxy names; None where it names nobody, or the header occurs twice: one of them may be the browser's."""
    login = _single(headers, settings.header)
    if not login or len(login) > LONGEST_LOGIN:
        return None
    name = _single(headers, settings.name_header) if settings.name_header else ""
    groups = _single(headers, settings.groups_header) if settings.groups_header else ""
    named = [group.strip() for group in re.split("[,;]", groups or "")]
    roles = roles_of_groups(named, settings.roles) | frozenset(settings.default_roles)
    return Principal(login, (name or login)[:LONGEST_LOGIN], roles, SignIn.PROXY)


def _single(headers: Headers, name: str) -> str | None:
    found = headers.getlist(name)
    if len(found) != 1:
        return None
    value = found[0].strip()
    return value if len(value) <= _LONGEST_HEADER and value.isprintable() else None
