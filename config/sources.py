"""Settings of the archives that are queried: to retrieve a study, or for the number of instances of a series."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from config.section import AeTitle, Port, Section, TlsFiles

if TYPE_CHECKING:
    from foundation.dicom_client.association import PeerAddress


class Source(Section):
    """A PACS that answers queries (C-FIND) and sends studies on request (C-MOVE or C-GET)."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")
    """Name for `corewatch pull --from`, logs and messages."""
    ae_title: AeTitle
    """AE title of the PACS. A series that this AE title sent is looked up here."""
    host: str
    port: Port
    our_ae_title: AeTitle | None = None
    """Calling AE title; null: that of the listener."""
    tls: TlsFiles | None = None
    expected: Literal["header", "query"] | None = None
    """Overrides `series.expected` for the series of this PACS: `query` asks it how many images a series has, `header` does not."""
    retrieve: Literal["move", "get"] = "move"
    """`move`: C-MOVE, for which the PACS must know the listener's AE title, host and port. `get`: C-GET, over the same
    association."""
    timeout_s: float = Field(30.0, gt=0)
    """Seconds to wait for a connection and for an answer to a query."""
    retrieve_timeout_s: float = Field(300.0, gt=0)
    """Longest silence in seconds while it sends."""

    def address(self, listener_ae_title: str, *, silence_s: float | None = None) -> PeerAddress:
        """Its address for the DICOM client, and the AE title that we use towards it."""
        # imported when first needed: it loads pynetdicom, and most programs read settings without calling a PACS
        from foundation.dicom_client.association import PeerAddress

        tls = None if self.tls is None else self.tls.for_client
        calling = self.our_ae_title or listener_ae_title
        return PeerAddress(self.host, self.port, self.ae_title, calling, self.timeout_s, tls, silence_s=silence_s)
