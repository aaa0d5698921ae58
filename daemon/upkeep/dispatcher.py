"""Dispatcher: publishes the ledger's outbox to the broker. Work is marked as published only after the broker took it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from corewatch.errors import RetryLater
from corewatch.messages import Work
from ledger.outbox import Outbox

log = structlog.get_logger()

Publish = Callable[[Work], None]
"""Publishes work; returns only after the broker took it, and raises `RetryLater` when it did not."""

FIRST_RETRY = timedelta(seconds=0.5)
MAX_RETRY = timedelta(seconds=15)
"""Pause after a failed attempt: doubles from the first to the longest."""

KEPT = timedelta(days=7)
"""Published work stays in the outbox this long, for the record."""


class Dispatcher:
    """Publishes the outbox. Used by its own thread, so that a slow broker does not delay the assembler."""

    def __init__(self, outbox: Outbox, publish: Publish) -> None:
        self._outbox = outbox
        self._publish = publish
        self._retry = FIRST_RETRY
        self._not_before: datetime | None = None
        self._down_since: datetime | None = None
        self._refused: dict[int, datetime] = {}

    def step(self, now: datetime) -> int:
        """Publish everything that is due; returns how much the broker took."""
        if _is_pending(self._not_before, now):
            return 0
        taken = 0
        for posted in self._outbox.due(now):
            if _is_pending(self._refused.get(posted.id), now):
                continue
            try:
                self._publish(posted.work)
            except RetryLater as error:
                self._note_broker_down(now, str(error))
                return taken
            except Exception:
                # this message alone is at fault: it waits, the others are published
                self._refused[posted.id] = now + MAX_RETRY
                log.exception("work_not_published", case=posted.work.case_id, stage=str(posted.work.stage))
                continue
            self._outbox.mark_published(posted)
            self._refused.pop(posted.id, None)
            taken += 1
            log.info("work_published", case=posted.work.case_id, stage=str(posted.work.stage), destination=posted.work.destination)
            self._note_broker_up(now)
        return taken

    def purge(self, now: datetime) -> int:
        """Delete work that was published long ago; returns the number of rows."""
        return self._outbox.purge(now - KEPT)

    def _note_broker_down(self, now: datetime, why: str) -> None:
        if self._down_since is None:
            self._down_since = now
            log.error("broker_unavailable", why=why, effect="work stays in the ledger and is retried")
        self._not_before = now + self._retry
        self._retry = min(self._retry * 2, MAX_RETRY)

    def _note_broker_up(self, now: datetime) -> None:
        if self._down_since is not None:
            log.info("broker_recovered", down_s=round((now - self._down_since).total_seconds(), 1))
        self._down_since, self._not_before, self._retry = None, None, FIRST_RETRY


def _is_pending(at: datetime | None, now: datetime) -> bool:
    """Whether a pause is not over. One longer than the longest pause dates from before the clock was set back."""
    return at is not None and timedelta(0) < at - now <= MAX_RETRY
