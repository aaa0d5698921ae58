"""Work that was lost on the way is posted again: the broker may be wiped and a worker may vanish at any moment.

Attempts are counted in the ledger when a worker takes a case up, and capped there by the worker: what is posted again too often
ends in front of an operator. What nobody takes up is not a failed attempt; it is only said aloud.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from corewatch.messages import Work
from corewatch.states import STAGE_OF, Stage
from ledger.cases import Case
from ledger.store import Ledger

log = structlog.get_logger()

NOBODY_AFTER = timedelta(minutes=10)
"""A case that no worker has taken up for so long is reported: probably none runs for its queue."""

_MANY = 10_000


class Reconciler:
    """Looks for cases and deliveries beyond their lease."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._reported: set[str] = set()

    def step(self, now: datetime) -> int:
        """Post again what is overdue; returns how much."""
        again = 0
        # what still waits for the broker is not lost
        waiting = {posted.work for posted in self._ledger.outbox.due(now, limit=_MANY)}
        for case in self._ledger.cases.overdue(now):
            if Work(STAGE_OF[case.state], case.case_id) not in waiting and self._ledger.cases.repost(case):
                again += 1
                log.warning("posted again", case=case.case_id, state=str(case.state), attempts=case.attempts)
                self._say_when_nobody_works(case, now)
        for delivery in self._ledger.deliveries.overdue(now):
            if Work(Stage.DELIVER, delivery.case_id, delivery.destination) in waiting:
                continue
            self._ledger.deliveries.repost(delivery)
            again += 1
            log.warning("posted again", case=delivery.case_id, destination=delivery.destination, attempts=delivery.attempts)
        return again

    def _say_when_nobody_works(self, case: Case, now: datetime) -> None:
        if case.holder is None and now - case.updated_at >= NOBODY_AFTER and case.case_id not in self._reported:
            self._reported.add(case.case_id)
            log.error("no worker takes up this case; is one running for its queue?", case=case.case_id, state=str(case.state))
