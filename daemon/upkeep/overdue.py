"""Overdue work and alerts: lost work is posted again, alerts that nobody acknowledges are escalated.

The broker may be wiped and a worker may end at any moment. A worker counts the attempts in the ledger when it claims a case, and
fails the case after too many. Work that no worker has claimed is no failed attempt; it is only logged.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from corewatch.messages import Work
from corewatch.states import STAGE_OF, Stage
from foundation.outages import OutageTracker
from ledger.cases import Case
from ledger.store import Ledger

log = structlog.get_logger()

UNCLAIMED_AFTER = timedelta(minutes=10)
"""A case that no worker has claimed for this long is logged: probably no worker runs for its queue."""

_ALL = 10_000


class Reconciler:
    """Posts cases and deliveries again whose lease has expired."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._unclaimed = OutageTracker()

    def step(self, now: datetime) -> int:
        """Post overdue work again; returns how much."""
        reposted = 0
        # work that still waits for the broker is not lost
        waiting = {posted.work for posted in self._ledger.outbox.due(now, limit=_ALL)}
        for case in self._ledger.cases.overdue(now):
            if Work(STAGE_OF[case.state], case.case_id) not in waiting and self._ledger.cases.repost(case):
                reposted += 1
                log.warning("work_reposted", case=case.case_id, state=str(case.state), attempts=case.attempts)
                self._log_unclaimed(case, now)
        for delivery in self._ledger.deliveries.overdue(now):
            if Work(Stage.DELIVER, delivery.case_id, delivery.destination) in waiting:
                continue
            self._ledger.deliveries.repost(delivery)
            reposted += 1
            log.warning("work_reposted", case=delivery.case_id, destination=delivery.destination, attempts=delivery.attempts)
        return reposted

    def _log_unclaimed(self, case: Case, now: datetime) -> None:
        if case.holder is None and now - case.updated_at >= UNCLAIMED_AFTER and self._unclaimed.failed(case.case_id):
            log.error("case_unclaimed", case=case.case_id, state=str(case.state), remedy="check that a worker runs for its queue")


def escalate_alerts(ledger: Ledger, now: datetime) -> int:
    """Start the next escalation level of every alert that nobody has acknowledged in time; returns the number of levels.

    Its mail becomes a delivery like any other. The times are in the ledger: a restart loses none and repeats none.
    """
    fired = ledger.alerts.fire(now)
    for case_id, level in fired:
        log.warning("alert_escalated", case=case_id, level=level, why="nobody has acknowledged it")
    return len(fired)
