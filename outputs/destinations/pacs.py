"""Delivery to a PACS by C-STORE, and its word that it keeps the objects (storage commitment)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from corewatch.storage_commitment import CommitmentReport, InstanceReference
from foundation.dicom_client.association import PeerAddress, TlsFiles
from foundation.dicom_client.commitment import check_commitment, request_commitment
from foundation.dicom_client.storage import echo, file_identity, send_files
from outputs.case import ReportedCase
from outputs.destinations.base import Delivered
from outputs.destinations.objects import judge, left_out, objects_of, warnings, why_not


@dataclass(frozen=True, slots=True)
class CommitmentTerms:
    """How storage commitment is asked for.

    Attributes
    ----------
    wait_s
        How long the association is kept open for the answer.
    patience
        After so long without an answer an operator must look.
    """

    wait_s: float
    patience: timedelta


@dataclass(frozen=True, slots=True)
class PacsParameters:
    """One PACS: its name here, its address, and how we call it."""

    name: str
    ae_title: str
    host: str
    port: int
    our_ae_title: str
    timeout_s: float = 30.0
    tls: TlsFiles | None = None
    objects: tuple[str, ...] = ("sc", "seg", "sr")
    """Kinds of objects to send: what the names of the files in the case's `dicom/` begin with."""
    not_analysed: bool = False
    """Also send the page that says why a series was not analysed."""
    commitment: CommitmentTerms | None = None

    @property
    def peer(self) -> PeerAddress:
        """Its address on the network."""
        return PeerAddress(self.host, self.port, self.ae_title, self.our_ae_title, self.timeout_s, self.tls)


class PacsDestination:
    """Sends the case's DICOM objects to one PACS."""

    def __init__(self, parameters: PacsParameters, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._to = parameters
        self._clock = clock

    @property
    def name(self) -> str:
        """The PACS's own name."""
        return self._to.name

    @property
    def server(self) -> str:
        """Its name, too."""
        return self._to.name

    @property
    def commitment(self) -> CommitmentTerms | None:
        """How storage commitment is asked for; None: it is not."""
        return self._to.commitment

    def skip_reason(self, case: ReportedCase) -> str | None:
        """Skip what did not come as DICOM, what failed without a finding, and what was not analysed unless asked for."""
        return why_not(case, self._to.objects, not_analysed=self._to.not_analysed)

    def deliver(self, case: ReportedCase) -> Delivered:
        """Send every object of the kinds asked for. The same objects again are the same instances, which a PACS keeps once."""
        delivered, _ = self.store(case)
        return delivered

    def store(self, case: ReportedCase, leave_out: Collection[str] = ()) -> tuple[Delivered, tuple[InstanceReference, ...]]:
        """`deliver` without the SOP instances to leave out; says too which were sent."""
        paths = [path for path in objects_of(case, self._to.objects) if not leave_out or file_identity(path)[1] not in leave_out]
        to = self._to
        outcomes = send_files(
            paths, host=to.host, port=to.port, called_ae=to.ae_title, calling_ae=to.our_ae_title, timeout_s=to.timeout_s, tls=to.tls
        )
        judge(outcomes, to.ae_title)
        detail = f"{len(outcomes)} objects stored by {to.ae_title} at {to.host}:{to.port}{warnings(outcomes)}" + left_out(
            case, to.objects
        )
        return Delivered(detail, self._clock()), tuple(InstanceReference(o.sop_class_uid, o.sop_instance_uid) for o in outcomes)

    def ask_commitment(self, transaction_uid: str, references: Sequence[InstanceReference]) -> CommitmentReport | None:
        """Ask it to commit what it has stored; None: the answer is received later (`request_commitment`)."""
        terms = self._to.commitment
        return request_commitment(self._to.peer, transaction_uid, references, wait_s=0.0 if terms is None else terms.wait_s)

    def check(self) -> None:
        """C-ECHO, and whether it offers storage commitment where that is asked for."""
        to = self._to
        echo(host=to.host, port=to.port, called_ae=to.ae_title, calling_ae=to.our_ae_title, timeout_s=to.timeout_s, tls=to.tls)
        if to.commitment is not None:
            check_commitment(to.peer)
