"""From the outbox to the broker: work is marked as published only after the broker took it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from corewatch.errors import RetryLater
from corewatch.messages import Work
from ledger.outbox import Outbox

log = structlog.get_logger()

Publish = Callable[[Work], None]
"""Hands work to the broker; returns only when the broker took it, and raises `RetryLater` when it did not."""

FIRST_WAIT = timedelta(seconds=0.5)
LONGEST_WAIT = timedelta(seconds=15)
"""Wait after a failed attempt: doubles from the first to the longest."""

KEPT = timedelta(days=7)
"""Published work is kept for so long, for the record."""


class Dispatcher:
    """Publishes what the outbox holds. Used by one thread, apart from the assembler's: a broker that is slow stops nobody else."""

    def __init__(self, outbox: Outbox, publish: Publish) -> None:
        self._outbox = outbox
        self._publish = publish
        self._wait = FIRST_WAIT
        self._not_before: datetime | None = None
        self._down_since: datetime | None = None
        self._refused: dict[int, datetime] = {}

    def step(self, now: datetime) -> int:
        """Publish everything that is due; returns how much the broker took."""
        if _is_ahead(self._not_before, now):
            return 0
        taken = 0
        for posted in self._outbox.due(now):
            if _is_ahead(self._refused.get(posted.id), now):
                continue
            try:
                self._publish(posted.work)
            except RetryLater as error:
                self._broker_is_down(now, str(error))
                return taken
            except Exception:
                # this message alone is at fault: it waits, the others go on
                self._refused[posted.id] = now + LONGEST_WAIT
                log.exception("work cannot be published", case=posted.work.case_id, stage=str(posted.work.stage))
                continue
            self._outbox.mark_published(posted)
            self._refused.pop(posted.id, None)
            taken += 1
            log.info("published", case=posted.work.case_id, stage=str(posted.work.stage), destination=posted.work.destination)
            self._broker_is_up(now)
        return taken

    def purge(self, now: datetime) -> int:
        """Forget what was published long ago; returns how many rows."""
        return self._outbox.purge(now - KEPT)

    def _broker_is_down(self, now: datetime, why: str) -> None:
        if self._down_since is None:
            self._down_since = now
            log.error("the broker does not take work; it stays in the ledger and is tried again", why=why)
        self._not_before = now + self._wait
        self._wait = min(self._wait * 2, LONGEST_WAIT)

    def _broker_is_up(self, now: datetime) -> None:
        if self._down_since is not None:
            log.info("the broker takes work again", down_s=round((now - self._down_since).total_seconds(), 1))
        self._down_since, self._not_before, self._wait = None, None, FIRST_WAIT


def _is_ahead(at: datetime | None, now: datetime) -> bool:
    """Whether a wait is not over. One that would last longer than the longest wait is: the clock was set back meanwhile."""
    return at is not None and timedelta(0) < at - now <= LONGEST_WAIT
