"""Alerts that nobody has acknowledged: when a level's time has come, its mail becomes a delivery like any other."""

from __future__ import annotations

from datetime import datetime

import structlog

from ledger.store import Ledger

log = structlog.get_logger()

LOOK_EVERY_S = 5.0


class Escalating:
    """Asks the ledger, which holds the times: a restart loses none and repeats none."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def step(self, now: datetime) -> int:
        """Start what is due; returns how many levels."""
        fired = self._ledger.alerts.fire(now)
        for case_id, level in fired:
            log.warning("nobody has acknowledged the alert: the next list is told", case=case_id, level=level)
        return len(fired)
