"""Settings of the portal's ways to sign in besides local users: a header of a trusted proxy."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

from pydantic import AfterValidator, Field

from config.section import Section
from corewatch.roles import Role

RolesOfGroups = Annotated[Mapping[str, tuple[Role, ...]], AfterValidator(lambda value: MappingProxyType(dict(value)))]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]


class ProxyLoginSettings(Section):
    """Sign-in by a header that a reverse proxy sets after it has verified the user.

    It counts only on connections from `portal.proxies`; the proxy must remove the header from what browsers send.
    """

    header: HeaderName = "X-Remote-User"
    """Header with the login."""
    name_header: HeaderName | None = None
    """Header with the name that pages show; null: the login is shown."""
    groups_header: HeaderName | None = "X-Remote-Groups"
    """Header with the groups, separated by commas or semicolons; null: there are none."""
    roles: RolesOfGroups = Field(default_factory=dict)
    """Group -> roles."""
    default_roles: tuple[Role, ...] = ()
    """Roles of everybody whom the proxy lets pass, whatever their groups."""
    api: bool = False
    """Also accept the header on addresses for programs (`/api/`), which otherwise need a session or a token."""
