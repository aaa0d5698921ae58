"""Delivery to a PACS by C-STORE, and its confirmation that it keeps the instances (storage commitment, PS3.4 Annex J)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

from pydicom.uid import UID

from config.delivery import DeliverSettings, PacsSettings
from corewatch.errors import OperatorNeeded
from corewatch.storage_commitment import CommitmentReport, InstanceReference
from foundation.dicom_client.association import PeerAddress
from foundation.dicom_client.commitment import check_commitment, request_commitment
from foundation.dicom_client.storage import StoreOutcome, echo, refused_sop_classes, send_files
from outputs.destinations.archive import ArchiveDestination, Progress, no_progress
from outputs.destinations.base import DestinationContext, DestinationKind
from outputs.dicom.object_kinds import SOP_CLASS, ObjectKind


class PacsDestination(ArchiveDestination):
    """Sends the case's DICOM instances to one PACS.

    Parameters
    ----------
    listener_ae_title
        Our calling AE title, unless the settings give another for this PACS.
    """

    def __init__(self, settings: PacsSettings, listener_ae_title: str, context: DestinationContext | None = None) -> None:
        super().__init__(settings, context)
        self._settings = settings
        tls = None if settings.tls is None else settings.tls.for_client
        calling_ae = settings.our_ae_title or listener_ae_title
        self._peer = PeerAddress(settings.host, settings.port, settings.ae_title, calling_ae, settings.timeout_s, tls)

    @property
    def address(self) -> str:
        """AE title, host and port."""
        return str(self._peer)

    @property
    def commitment_patience(self) -> timedelta | None:
        """How long its answer to a storage commitment request is waited for; None: commitment is not requested."""
        return timedelta(hours=self._settings.commitment_patience_h) if self._settings.commitment else None

    @property
    def limit_words(self) -> str:
        """The setting that limits the wait for one object."""
        return f"`timeout_s` of {self.name} in deliver.pacs ({self._settings.timeout_s:g} s)"

    def send(
        self, paths: Sequence[Path], progress: Progress = no_progress, attempt_s: float | None = None
    ) -> Sequence[StoreOutcome]:
        """Send the files by C-STORE over one association."""
        to = self._peer
        return send_files(
            paths,
            host=to.host,
            port=to.port,
            called_ae=to.called_ae,
            calling_ae=to.calling_ae,
            timeout_s=to.timeout_s,
            tls=to.tls,
            progress=progress,
            attempt_s=attempt_s,
        )

    def request_commitment(self, transaction_uid: str, references: Sequence[InstanceReference]) -> CommitmentReport | None:
        """Request storage commitment of what it has stored; None: the answer is received later, on another association."""
        return request_commitment(self._peer, transaction_uid, references, wait_s=self._settings.commitment_wait_s)

    def check(self) -> None:
        """C-ECHO; whether it takes every kind of object that will be sent, and commits where the settings ask for that."""
        to = self._peer
        echo(host=to.host, port=to.port, called_ae=to.called_ae, calling_ae=to.calling_ae, timeout_s=to.timeout_s, tls=to.tls)
        kinds = {SOP_CLASS[ObjectKind(name)]: name for name in self._settings.objects}
        if refused := refused_sop_classes(to, list(kinds)):
            names = ", ".join(f"{UID(one).name} ({kinds[one]})" for one in refused)
            raise OperatorNeeded(
                f"{to} answers, and does not take {names}", "allow these SOP classes there, or remove their kinds from objects"
            )
        if self._settings.commitment:
            check_commitment(to)


def _build(deliver: DeliverSettings, context: DestinationContext) -> Iterator[PacsDestination]:
    for section in deliver.pacs:
        yield PacsDestination(section, context.listener_ae_title, context)


KIND = DestinationKind(PacsSettings, _build)
