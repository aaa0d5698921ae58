"""Settings of the portal's ways to sign in besides local users: OpenID Connect, and a header of a trusted proxy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, field_validator

from config.section import Section
from corewatch.roles import Role

RolesOfGroups = Annotated[Mapping[str, tuple[Role, ...]], AfterValidator(lambda value: MappingProxyType(dict(value)))]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]


class OidcSettings(Section):
    """Sign-in by an identity provider (OpenID Connect, authorization code flow with PKCE)."""

    issuer: str
    """Address of the provider, such as `https://login.clinic.example/realms/clinic`; its
    `.well-known/openid-configuration` names the rest."""
    client_id: str
    """Client that is registered there, with `{portal.url}/login/oidc/callback` as its redirect address."""
    client_secret: SecretStr | None = None
    """Secret of the client; null: a public client, which PKCE alone protects."""
    scopes: tuple[str, ...] = ("openid", "profile")
    """Scopes to ask for; some providers need one more to send the groups."""
    login_claim: str = "preferred_username"
    """Claim with the login that the audit trail names."""
    name_claim: str = "name"
    """Claim with the name that pages show."""
    groups_claim: str = "groups"
    """Claim with the groups; looked for in the ID token, then in the user info."""
    roles: RolesOfGroups = Field(default_factory=dict)
    """Group -> roles, such as `{stroke-team: [viewer]}`. Without a group of this list nobody signs in."""
    authority: Path | None = None
    """CA certificate (PEM) that the provider's certificate must come from; null: the system's CAs."""
    timeout_s: float = Field(10.0, gt=0)
    """Longest wait for an answer of the provider."""

    @field_validator("issuer")
    @classmethod
    def _is_address(cls, value: str) -> str:
        parts = urlsplit(value)
        loopback = parts.hostname in {"127.0.0.1", "::1", "localhost"}
        if not parts.hostname or parts.query or parts.fragment or not (parts.scheme == "https" or loopback):
            raise ValueError("must be like https://login.clinic.example")
        return value

    @field_validator("scopes")
    @classmethod
    def _has_openid(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "openid" not in value:
            raise ValueError("needs openid")
        return value


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
