"""Delivery to a DICOMweb archive by STOW-RS."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from config.delivery import DeliverSettings, DicomwebSettings
from foundation.dicom_client.storage import StoreOutcome
from outputs.destinations import stow
from outputs.destinations.archive import ArchiveDestination
from outputs.destinations.base import DestinationContext, DestinationKind, utc_clock


class DicomwebDestination(ArchiveDestination):
    """Stores the case's DICOM instances over HTTP."""

    def __init__(self, settings: DicomwebSettings, clock: Callable[[], datetime] = utc_clock) -> None:
        super().__init__(settings, clock)
        self._settings = settings

    @property
    def address(self) -> str:
        """Its URL."""
        return self._settings.url

    def send(self, paths: Sequence[Path]) -> Sequence[StoreOutcome]:
        """Send the files by STOW-RS."""
        return stow.store(self._settings, paths)

    def check(self) -> None:
        """Search for one study (QIDO-RS), with the same credentials."""
        stow.check(self._settings)


def _build(deliver: DeliverSettings, context: DestinationContext) -> Iterator[DicomwebDestination]:
    for section in deliver.dicomweb:
        yield DicomwebDestination(section, context.clock)


KIND = DestinationKind(DicomwebSettings, _build)
