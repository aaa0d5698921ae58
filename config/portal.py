"""Settings of the pages that links in mails lead to."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from config.section import Port, Section
from foundation.keys import own_key


class PortalSettings(Section):
    """The pages that links in mails lead to; null: none, and mails hold no links.

    For TLS put a reverse proxy in front, or give it a certificate.
    """

    host: str = "127.0.0.1"
    port: Port = 8080
    url: str | None = None
    """How readers of the mails reach it, such as `https://corewatch.clinic.example`; null: mails hold no links."""
    key: SecretStr | None = None
    """Key of the links' signature, at least 32 characters; null: one is made and kept in the data folder. Programs on several hosts
    that do not share `data_dir` need the same."""
    link_days: float = Field(14.0, gt=0)
    """Links are good for so long."""
    certificate: Path | None = None
    """PEM of its certificate (with chain); null: plain HTTP."""
    certificate_key: Path | None = None
    """PEM of the certificate's key."""
    proxies: tuple[str, ...] = ()
    """Addresses of reverse proxies whose `X-Forwarded-For` is believed."""

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
        """Key of the links' signature."""
        return own_key(data_dir, "links") if self.key is None else self.key.get_secret_value().encode()
