"""Drops that the watch folder refused become cases too, so that who dropped them gets an answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from queue import Empty, SimpleQueue

from config.settings import Settings
from corewatch.arrival import Arrival, ArrivalOutcome, ArrivalSource, Closing
from daemon.admission import Admission
from daemon.watch_inbox import RejectedDrop
from ledger.store import Ledger


class RefusedDrops:
    """Takes refused drops from the watch folder's thread; `step` brings them into the ledger."""

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger = ledger
        self._admission = Admission(ledger, settings)
        self._email: Mapping[Path, tuple[str, ...]] = {f.path: f.email for f in settings.watch.folders}
        self._waiting: SimpleQueue[RejectedDrop] = SimpleQueue()

    def put(self, drop: RejectedDrop) -> None:
        """Note a refused drop; returns at once."""
        self._waiting.put(drop)

    def step(self, _now: datetime) -> int:
        """Open and end a case for every refused drop; returns how many."""
        done = 0
        while True:
            try:
                drop = self._waiting.get_nowait()
            except Empty:
                return done
            try:
                self._report(drop)
            except BaseException:
                self._waiting.put(drop)
                raise
            done += 1

    def _report(self, drop: RejectedDrop) -> None:
        at = drop.rejected_at
        arrival_id = f"{at:%Y%m%dT%H%M%S}-drop-{drop.drop_id}"
        arrival = Arrival(arrival_id, ArrivalSource.FOLDER, at, email=self._email.get(drop.folder, ()))
        self._ledger.intake.register(arrival)
        case_id = self._ledger.intake.take_unreadable(arrival, arrival_id, drop.reason)
        self._admission.reject_unreadable(case_id, drop.reason)
        self._ledger.intake.finish(arrival_id, Closing(at, ArrivalOutcome.RELEASED, 0))
