"""Settings of the web portal, which serves the links in mails."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from config.section import Port, Section
from foundation.keys import installation_key


class PortalSettings(Section):
    """The web portal, which serves the links in mails; null: no portal and no links.

    For TLS use a reverse proxy or set `certificate`.
    """

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Port = 8080
    """Port to listen on."""
    url: str | None = None
    """Address at which readers of mails reach it, such as `https://corewatch.clinic.example`; null: no links in mails."""
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
    """Addresses of reverse proxies whose `X-Forwarded-For` is trusted."""

    @field_validator("url")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "https://none")
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or parts.username:
            raise ValueError("must be like https://corewatch.clinic.example")
        return None if value is None else value.rstrip("/")

    @field_validator("key")
    @classmethod
    def _is_long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 32:
            raise ValueError("needs at least 32 characters")
        return value

    def link_key(self, data_dir: Path) -> bytes:
        """Key that signs the links."""
        return installation_key(data_dir, "links") if self.key is None else self.key.get_secret_value().encode()
