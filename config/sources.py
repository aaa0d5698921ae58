"""Settings of the archives that we may ask: for a study that was never sent to us, and for how many images a series has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from config.section import AeTitle, Port, Section, TlsFiles

if TYPE_CHECKING:
    from foundation.dicom_client.association import PeerAddress


class Source(Section):
    """A PACS that may be asked (C-FIND), and that sends a study when it is asked for it (C-MOVE or C-GET)."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")
    ae_title: AeTitle
    """Also the name that tells which source to ask about a series: the AE title that sent it."""
    host: str
    port: Port
    our_ae_title: AeTitle | None = None
    """Calling AE title; None: the listener's."""
    tls: TlsFiles | None = None
    expected: Literal["header", "query"] | None = None
    """In the place of `series.expected` for what it sends: `query` asks it how many images a series has, `header` does not."""
    retrieve: Literal["move", "get"] = "move"
    """`move`: it opens an association to our listener, whose AE title, host and port it must know. `get`: it sends on ours."""
    timeout_s: float = Field(30.0, gt=0)
    """Longest wait for a connection and for an answer to a query."""
    retrieve_timeout_s: float = Field(300.0, gt=0)
    """Longest silence while it sends."""

    def address(self, listener_ae_title: str, *, silence_s: float | None = None) -> PeerAddress:
        """Its address for the DICOM client, and the AE title that we use towards it."""
        # imported when first needed: it loads pynetdicom, and most programs read settings without calling a PACS
        from foundation.dicom_client.association import PeerAddress, TlsFiles

        tls = None if self.tls is None else TlsFiles(self.tls.certificate, self.tls.key, self.tls.authority)
        calling = self.our_ae_title or listener_ae_title
        return PeerAddress(self.host, self.port, self.ae_title, calling, self.timeout_s, tls, silence_s=silence_s)
