"""Base class of the settings sections, and types of values that several sections use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from foundation.dicom_client.association import TlsFiles as ClientTlsFiles

Port = Annotated[int, Field(ge=0, le=65535)]
_AE_TITLE = r"^[\x21-\x5b\x5d-\x7e]([\x20-\x5b\x5d-\x7e]*[\x21-\x5b\x5d-\x7e])?$"
AeTitle = Annotated[str, Field(min_length=1, max_length=16, pattern=_AE_TITLE)]
"""PS3.5 6.2: at most 16 characters, no backslash, no control characters; spaces inside only."""
_DOMAIN = r"[A-Za-z0-9]([A-Za-z0-9.-]{0,253}[A-Za-z0-9])?"
Domain = Annotated[str, Field(pattern=rf"^{_DOMAIN}$")]
EmailAddress = Annotated[str, Field(max_length=320, pattern=rf"^[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@{_DOMAIN}$")]
"""A mailbox without a display name (RFC 5321 4.1.2, without quoted names)."""


class Section(BaseModel):
    """Base of all settings sections. Infinity and NaN are refused: a threshold that nothing reaches would silently disable its
    alert."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class TlsFiles(Section):
    """Our certificate and key, and the CA that the peer's certificate must come from; all PEM."""

    certificate: Path
    """Our certificate (PEM)."""
    key: Path
    """Private key of our certificate (PEM)."""
    authority: Path
    """CA certificate (PEM) that the peer's certificate must come from."""
    check_hostname: bool = True
    """When we call a peer: whether its certificate must name the host that we call. False: a certificate of the CA is enough, for
    peers whose certificate names another host or none."""

    @property
    def for_client(self) -> ClientTlsFiles:
        """The same files for the DICOM client."""
        # imported when first needed: it loads pynetdicom, and most programs read settings without calling a peer
        from foundation.dicom_client.association import TlsFiles as ClientTlsFiles

        return ClientTlsFiles(self.certificate, self.key, self.authority, self.check_hostname)
