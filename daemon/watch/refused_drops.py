"""Drops that the watch folder refused become cases too, so that who dropped them gets an answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from config.settings import Settings
from corewatch.arrival import Arrival, ArrivalOutcome, ArrivalSource, Closing
from corewatch.reasons import Reason
from daemon.intake.admission import Admission
from daemon.watch.inbox import RejectedDrop
from ledger.store import Ledger


class RefusedDrops:
    """Brings refused drops into the ledger. Used by the watch folder's thread."""

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger = ledger
        self._admission = Admission(ledger, settings)
        self._email: Mapping[Path, tuple[str, ...]] = {f.path: f.email for f in settings.watch.folders}

    def report(self, drop: RejectedDrop) -> None:
        """Open and end a case for a refused drop. May be repeated: a drop gets one case, however often it is reported.

        Raises
        ------
        sqlalchemy.exc.SQLAlchemyError
            The ledger cannot be written now. The drop must stay where it is and be reported again.
        """
        arrival_id = f"drop-{drop.drop_id}-{drop.occurrence}"
        if arrival_id in self._ledger.intake.finished_arrivals():
            return
        arrival = Arrival(arrival_id, ArrivalSource.FOLDER, drop.rejected_at, email=self._email.get(drop.folder, ()))
        self._ledger.intake.register(arrival)
        case_id = self._ledger.singles.take_unreadable(arrival, arrival_id, drop.reason)
        if case_id is not None:
            self._admission.reject_single(case_id, Reason.UNREADABLE, drop.reason)
        self._ledger.intake.finish(arrival_id, Closing(drop.rejected_at, ArrivalOutcome.RELEASED, 0))
