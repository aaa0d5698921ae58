"""Delivery to a DICOMweb archive by STOW-RS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from config.delivery import DeliverSettings, DicomwebSettings
from foundation.dicom_client.storage import StoreOutcome
from outputs.destinations import stow
from outputs.destinations.archive import ArchiveDestination, Progress, no_progress
from outputs.destinations.base import DestinationContext, DestinationKind


class DicomwebDestination(ArchiveDestination):
    """Stores the case's DICOM instances over HTTP."""

    def __init__(self, settings: DicomwebSettings, context: DestinationContext | None = None) -> None:
        super().__init__(settings, context)
        self._settings = settings

    @property
    def address(self) -> str:
        """Its URL."""
        return self._settings.url

    def send(
        self, paths: Sequence[Path], progress: Progress = no_progress, attempt_s: float | None = None
    ) -> Sequence[StoreOutcome]:
        """Send the files by STOW-RS."""
        return stow.store(self._settings, paths, progress)

    def check(self) -> None:
        """Search for one study (QIDO-RS), with the same credentials."""
        stow.check(self._settings)


def _build(deliver: DeliverSettings, context: DestinationContext) -> Iterator[DicomwebDestination]:
    for section in deliver.dicomweb:
        yield DicomwebDestination(section, context)


KIND = DestinationKind(DicomwebSettings, _build)
