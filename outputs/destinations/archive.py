"""Base of the destinations that keep DICOM instances: which cases and which instances they get, and what their answers mean."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path

from config.delivery import DicomwebSettings, PacsSettings
from corewatch.errors import OperatorNeeded, RetryLater
from corewatch.storage_commitment import InstanceReference
from foundation.dicom_client.storage import StoreOutcome, StoreResult, file_identity
from outputs.case import ReportedCase
from outputs.destinations.base import Delivered, utc_clock
from outputs.dicom.object_manifest import ObjectManifest


class ArchiveDestination(ABC):
    """Stores the DICOM instances of a case in one archive.

    Parameters
    ----------
    settings
        The archive's section.
    """

    def __init__(self, settings: PacsSettings | DicomwebSettings, clock: Callable[[], datetime] = utc_clock) -> None:
        self._kinds = settings.objects
        self._not_analysed = settings.not_analysed
        self._clock = clock
        self.name = settings.name
        self.server = settings.name

    @property
    @abstractmethod
    def address(self) -> str:
        """The archive as messages name it."""

    @abstractmethod
    def send(self, paths: Sequence[Path]) -> Sequence[StoreOutcome]:
        """Send DICOM files (PS3.10) and return the archive's answer for each, in their order."""

    def skip_reason(self, case: ReportedCase) -> str | None:
        """Skip a case without a DICOM source, without a finding (unless its page is asked for), or without the kinds asked for."""
        if case.result.finding is None and (case.failed or not self._not_analysed):
            return "no finding: nothing for a PACS"
        if case.source_header is None:
            return "no DICOM source: there is no study that the result could join"
        manifest = ObjectManifest.read(case.folder.dicom)
        if manifest is not None and not any(kind in manifest.made for kind in self._kinds):
            return manifest.missing(self._kinds) or f"the result has no {', '.join(self._kinds)}"
        return None

    def deliver(self, case: ReportedCase) -> Delivered:
        """Store every instance of the kinds asked for. The same case has the same instances, which an archive keeps once."""
        return self.store(case)[0]

    def store(self, case: ReportedCase, leave_out: Collection[str] = ()) -> tuple[Delivered, tuple[InstanceReference, ...]]:
        """Store what `deliver` stores, without the SOP Instance UIDs in `leave_out`; returns the stored instances too.

        Raises
        ------
        RetryLater, OperatorNeeded
            As `deliver`.
        """
        paths = [path for path in self._instances(case) if not leave_out or file_identity(path)[1] not in leave_out]
        outcomes = self.send(paths)
        raise_unless_stored(outcomes, self.address)
        manifest = ObjectManifest.read(case.folder.dicom)
        missing = "" if manifest is None else manifest.missing(self._kinds)
        detail = f"{len(outcomes)} objects stored by {self.address}{warning_summary(outcomes)}"
        delivered = Delivered(f"{detail}; {missing}" if missing else detail, self._clock())
        return delivered, tuple(InstanceReference(one.sop_class_uid, one.sop_instance_uid) for one in outcomes)

    def _instances(self, case: ReportedCase) -> tuple[Path, ...]:
        """The case's files of the kinds asked for, which their names begin with."""
        paths = tuple(path for kind in self._kinds for path in sorted(case.folder.dicom.glob(f"{kind}-*.dcm")))
        if not paths:
            raise OperatorNeeded(
                "the case's folder holds no DICOM objects of the kinds asked for", f"`corewatch cases retry {case.case_id}`"
            )
        return paths


def raise_unless_stored(outcomes: Sequence[StoreOutcome], peer: str) -> None:
    """Raise where `peer` failed to store an instance. A permanent refusal outweighs a temporary one, which retrying would hide.

    Raises
    ------
    RetryLater
        All failures are temporary.
    OperatorNeeded
        At least one is not.
    """
    failed = [outcome for outcome in outcomes if outcome.result is StoreResult.FAILED]
    if not failed:
        return
    worst = next((outcome for outcome in failed if not outcome.temporary), failed[0])
    status = "no status" if worst.status is None else f"status 0x{worst.status:04X}"
    problem = f"{peer} refused {len(failed)} of {len(outcomes)} objects: {worst.meaning} ({status})"
    if worst.temporary:
        raise RetryLater(problem, "look at its disk and load")
    raise OperatorNeeded(problem, "look at its log and its rules for these kinds of objects, or take a kind out of `objects`")


def warning_summary(outcomes: Sequence[StoreOutcome]) -> str:
    """What the archive changed or left out, by status: `, 2 with warnings: ...`; empty without warnings."""
    warned = [outcome for outcome in outcomes if outcome.result is StoreResult.WARNING]
    if not warned:
        return ""
    kinds = {outcome.status: outcome.meaning for outcome in warned if outcome.status is not None}
    return f", {len(warned)} with warnings: " + "; ".join(f"{words} (0x{status:04X})" for status, words in sorted(kinds.items()))
