"""Rejected drops: each becomes a case that is not analysed, so that the person who dropped it gets an answer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from config.settings import Settings
from corewatch.arrival import Arrival, ArrivalOutcome, ArrivalSource, Closing
from corewatch.reasons import Reason
from daemon.intake.triage import Triage
from daemon.watch.scan import Drop
from ledger.store import Ledger


@dataclass(frozen=True, slots=True)
class RejectedDrop:
    """A drop that could not be ingested, or the first of several loose files. Free of patient data.

    Attributes
    ----------
    folder
        The watched folder; the drop is moved to its `rejected` folder, with the reason beside it.
    drop_id
        Hash of the drop's name, as in the log.
    occurrence
        Hash that is the same at every attempt at this drop, and another one when something is dropped again under the same name.
    """

    folder: Path
    drop_id: str
    occurrence: str
    reason: str
    rejected_at: datetime


def drop_id(name: str) -> str:
    """A short hash of a drop's name. The name may contain a patient's name, so it is never logged."""
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:10]


def occurrence_of(drop: Drop) -> str:
    """Hash that tells a drop from a later one of the same name: inode number and change time of its top entry."""
    try:
        status = drop.path.lstat()
        seen: object = (status.st_ino, status.st_ctime_ns)
    except OSError:
        seen = drop.signature
    return hashlib.sha256(repr((str(drop.path), seen)).encode("utf-8", "surrogateescape")).hexdigest()[:20]


class RejectionRecorder:
    """Records rejected drops in the ledger. Used by the watch folders' threads."""

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger = ledger
        self._triage = Triage(ledger, settings)
        self._email: Mapping[Path, tuple[str, ...]] = {f.path: f.email for f in settings.watch.folders}

    def record(self, drop: RejectedDrop) -> None:
        """Open and end a case for a rejected drop. Idempotent: a drop gets one case, however often it is recorded.

        Raises
        ------
        sqlalchemy.exc.SQLAlchemyError
            The ledger cannot be written now. The drop must stay where it is and be recorded again.
        """
        arrival_id = f"drop-{drop.drop_id}-{drop.occurrence}"
        if arrival_id in self._ledger.intake.finished_arrivals():
            return
        arrival = Arrival(arrival_id, ArrivalSource.FOLDER, drop.rejected_at, email=self._email.get(drop.folder, ()))
        self._ledger.intake.register(arrival)
        case_id = self._ledger.single_file_cases.open_unreadable(arrival, arrival_id, drop.reason)
        if case_id is not None:
            self._triage.reject_single_file(case_id, Reason.UNREADABLE, drop.reason)
        self._ledger.intake.finish(arrival_id, Closing(drop.rejected_at, ArrivalOutcome.RELEASED, 0))
