"""Settings of the web portal: serving, links in mails, sign-in, patient data."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from config.portal_access import OidcSettings, ProxyLoginSettings
from config.section import Port, Section
from corewatch.roles import Role
from foundation.keys import installation_key

PatientField = Literal["accession", "patient_id", "name", "birth_date"]


class PortalSettings(Section):
    """The web portal; null: no portal and no links in mails.

    Without an enabled user (`corewatch users add`), `oidc` or `proxy_login` only the links in mails and the health check answer.
    For TLS use a reverse proxy or set `certificate`.
    """

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Port = 8080
    """Port to listen on."""
    metrics_host: str = "127.0.0.1"
    """Address on which the portal answers `/metrics` to Prometheus, without sign-in and without patient data."""
    metrics_port: Port | None = 9464
    """Port of `/metrics`; null: no metrics."""
    url: str | None = None
    """Address at which people reach it, such as `https://corewatch.clinic.example` or `https://clinic.example/corewatch`; null: no
    links in mails and no sign-in. Signing in needs https, or http on this machine (`http://127.0.0.1:8080`)."""
    key: SecretStr | None = None
    """Key that signs the links, at least 32 characters; null: a generated one in the data folder. Hosts that do not share
    `data_dir` must use the same key."""
    link_days: float = Field(14.0, gt=0)
    """Days for which a link is valid."""
    certificate: Path | None = None
    """Certificate with its chain (PEM); null: HTTP without TLS."""
    certificate_key: Path | None = None
    """Private key (PEM) of the certificate."""
    proxies: tuple[str, ...] = ()
    """Addresses or networks of reverse proxies whose `X-Forwarded-For` is trusted."""
    users: bool = True
    """Let the users of `corewatch users` sign in with their passwords."""
    oidc: OidcSettings | None = None
    proxy_login: ProxyLoginSettings | None = None
    session_idle_min: float = Field(30.0, gt=0)
    """Minutes without use after which a session ends."""
    session_hours: float = Field(12.0, gt=0)
    """Hours after which a session ends in any case."""
    sign_in_failures: int = Field(5, ge=1)
    """Failed attempts to sign in within 15 minutes, per user and per address, after which further ones are refused."""
    connections_per_address: int = Field(32, ge=4)
    """Connections without a valid request yet that one address may hold; `proxies` are exempt."""
    streams: int = Field(500, ge=1)
    """Live pages that may be open at the same time."""
    patient_fields: tuple[PatientField, ...] = ("accession",)
    """Patient data that pages show, to `patient_roles`, while the case's images are kept."""
    patient_roles: tuple[Role, ...] = (Role.VIEWER, Role.READER)
    """Roles that see `patient_fields`."""
    viewer_url: str | None = None
    """Address of the PACS's viewer for one study, with `{study_uid}` or `{accession}`; null: no link to it."""
    sla_s: float = Field(300.0, gt=0)
    """Seconds from the last image to the alert that the worklist counts as in time."""

    @field_validator("url")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "https://none")
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or parts.username:
            raise ValueError("must be like https://corewatch.clinic.example")
        return None if value is None else value.rstrip("/")

    @field_validator("viewer_url")
    @classmethod
    def _has_known_places(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            filled = value.format(study_uid="1.2", accession="A1")
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError("may only contain {study_uid} and {accession}") from error
        if filled == value or urlsplit(filled).scheme not in {"http", "https"}:
            raise ValueError("must be like https://pacs.clinic.example/viewer?study={study_uid}")
        return value

    @model_validator(mode="after")
    def _proxies_set_the_header(self) -> PortalSettings:
        if self.proxy_login is not None and not self.proxies:
            raise ValueError("proxy_login needs the proxy's address in proxies")
        return self

    @field_validator("key")
    @classmethod
    def _is_long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 32:
            raise ValueError("needs at least 32 characters")
        return value

    def link_key(self, data_dir: Path) -> bytes:
        """Key that signs the links."""
        return installation_key(data_dir, "links") if self.key is None else self.key.get_secret_value().encode()

    @property
    def base_path(self) -> str:
        """Path of `url`, without a slash at its end; empty where it has none."""
        return urlsplit(self.url or "").path.rstrip("/")

    @property
    def secure(self) -> bool:
        """Whether people reach it by https."""
        return (self.url or "").startswith("https://")

    @property
    def may_sign_in(self) -> bool:
        """Whether a password and a session cookie are safe on the way: https, or http on this machine."""
        return self.secure or urlsplit(self.url or "").hostname in {"127.0.0.1", "::1", "localhost"}
