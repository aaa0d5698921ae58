"""Base of the destinations that keep DICOM instances: which cases and which instances they get, and what their answers mean."""

from __future__ import annotations

import hashlib
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from config.delivery import DicomwebSettings, PacsSettings
from corewatch.errors import NoAnswer, OperatorNeeded, RetryLater, SlowAnswer
from corewatch.storage_commitment import InstanceReference
from corewatch.stored_objects import StoredObject, still_to_send
from foundation.dicom_client.storage import BrokenOff, StoreOutcome, StoreResult, classify_status, file_identity
from outputs.case import ReportedCase
from outputs.destinations.base import Delivered, DestinationContext
from outputs.dicom.object_manifest import ObjectManifest

Progress = Callable[[StoreOutcome], None]
"""Is called for each instance as soon as the archive has answered."""

QUICK_S: Final = 5.0
"""An association that broke off within this many seconds is followed by another one in the same attempt."""


def no_progress(_outcome: StoreOutcome) -> None:
    """Note nothing."""


class ArchiveDestination(ABC):
    """Stores the DICOM instances of a case in one archive.

    Parameters
    ----------
    settings
        The archive's section.
    """

    must_not_wait = False

    def __init__(self, settings: PacsSettings | DicomwebSettings, context: DestinationContext | None = None) -> None:
        context = DestinationContext() if context is None else context
        self._kinds = settings.objects
        self._not_analysed = settings.not_analysed
        self._clock, self._stored, self._attempt_s = context.clock, context.stored, context.attempt_s
        self.name = settings.name
        self.server = settings.name

    @property
    @abstractmethod
    def address(self) -> str:
        """The archive as messages name it."""

    @property
    def limit_words(self) -> str:
        """The setting that limits the wait for one answer."""
        return f"`timeout_s` of {self.name}"

    @abstractmethod
    def send(
        self, paths: Sequence[Path], progress: Progress = no_progress, attempt_s: float | None = None
    ) -> Sequence[StoreOutcome]:
        """Send DICOM files (PS3.10) and return the archive's answer for each, in their order.

        Parameters
        ----------
        progress
            Called for each instance as soon as it has been answered.
        attempt_s
            No instance is begun after this many seconds, except the first one.
        """

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
        files = [_File.read(path) for path in self._instances(case)]
        files = [file for file in files if file.uid not in leave_out]
        outcomes = self._send_missing(case.case_id, files)
        raise_unless_stored(outcomes, self.address)
        manifest = ObjectManifest.read(case.folder.dicom)
        missing = "" if manifest is None else manifest.missing(self._kinds)
        detail = f"{len(outcomes)} objects stored by {self.address}{warning_summary(outcomes)}"
        delivered = Delivered(f"{detail}; {missing}" if missing else detail, self._clock())
        return delivered, tuple(InstanceReference(one.sop_class_uid, one.sop_instance_uid) for one in outcomes)

    def _send_missing(self, case_id: str, files: Sequence[_File]) -> list[StoreOutcome]:
        """Send what the archive has not accepted yet; returns the outcome of every file, in their order.

        Where it breaks off at one object, the others are sent over a new association, so that one object that it cannot take does
        not keep them from it.
        """
        began, known = time.monotonic(), self._stored.known(case_id, self.name)
        by_path = {file.path: file for file in files}
        wanted = set(still_to_send([(file.uid, file.sha256) for file in files], known))
        done = {file.path: _remembered(file, known[file.uid]) for file in files if file.uid not in wanted}
        left, again = deque(file.path for file in files if file.uid in wanted), deque[Path]()
        broken: NoAnswer | None = None
        before = len(done)

        def note(outcome: StoreOutcome) -> None:
            done[outcome.path] = outcome
            left.remove(outcome.path)
            if outcome.result is not StoreResult.FAILED and outcome.status is not None:
                file = by_path[outcome.path]
                self._stored.add(case_id, self.name, file.uid, StoredObject(file.sha256, outcome.status))

        while left:
            association_began = time.monotonic()
            try:
                self.send(tuple(left), note, max(0.0, self._attempt_s - (association_began - began)))
            except BrokenOff as error:
                broken = error if broken is None else broken
                again.append(left.popleft())  # the one that it broke off at
                if time.monotonic() - association_began >= QUICK_S:
                    break  # it is slow as well: not now
            except (NoAnswer, SlowAnswer) as error:
                raise self._with_progress(error, done.values(), len(files)) from None
            if not left and again and len(done) > before:
                left, again, broken, before = again, deque(), None, len(done)
        if broken is not None:
            raise self._with_progress(broken, done.values(), len(files))
        return [done[file.path] for file in files]

    def _with_progress(self, error: RetryLater, outcomes: Iterable[StoreOutcome], total: int) -> RetryLater:
        """The error with the archive's name, how far the delivery is, and the setting that limits the wait."""
        stored = sum(outcome.result is not StoreResult.FAILED for outcome in outcomes)
        problem = f"{self.name}: {error.problem} ({stored} of {total} objects are there)"
        return type(error)(problem, f"{error.remedy}; the limit for one answer is {self.limit_words}")

    def _instances(self, case: ReportedCase) -> tuple[Path, ...]:
        """The case's files of the kinds asked for, which their names begin with."""
        paths = tuple(path for kind in self._kinds for path in sorted(case.folder.dicom.glob(f"{kind}-*.dcm")))
        if not paths:
            raise OperatorNeeded(
                "the case's folder holds no DICOM objects of the kinds asked for", f"`corewatch cases retry {case.case_id}`"
            )
        return paths


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    sop_class: str
    uid: str
    sha256: str

    @classmethod
    def read(cls, path: Path) -> _File:
        """Identity and digest of a file; raises as `file_identity`."""
        sop_class, uid = file_identity(path)
        with path.open("rb") as file:
            return cls(path, sop_class, uid, hashlib.file_digest(file, "sha256").hexdigest())


def _remembered(file: _File, stored: StoredObject) -> StoreOutcome:
    result, words, _ = classify_status(stored.status)
    return StoreOutcome(file.path, file.sop_class, file.uid, result, stored.status, words)


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
