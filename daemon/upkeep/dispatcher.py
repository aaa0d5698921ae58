"""Dispatcher: publishes the ledger's outbox to the broker. Work is marked as published only after the broker took it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog

from corewatch.errors import RetryLater
from corewatch.messages import Work
from foundation.backoff import Backoff, RetryTimer
from ledger.outbox import Outbox

log = structlog.get_logger()

Publish = Callable[[Work], None]
"""Publishes work; returns only after the broker took it, and raises `RetryLater` when it did not."""

BACKOFF: Final = Backoff(0.5, 15.0)
"""Pauses while the broker is down."""

MESSAGE_BACKOFF: Final = Backoff.constant(15.0)
"""Pause after an error of one message."""

KEPT = timedelta(days=7)
"""Published work stays in the outbox this long, for the record."""


class Dispatcher:
    """Publishes the outbox. Used by its own thread, so that a slow broker does not delay the assembler."""

    def __init__(self, outbox: Outbox, publish: Publish) -> None:
        self._outbox = outbox
        self._publish = publish
        self._broker = RetryTimer(BACKOFF)
        self._refused: dict[int, RetryTimer] = {}

    def step(self, now: datetime) -> int:
        """Publish everything that is due; returns how much the broker took."""
        if not self._broker.is_due(now):
            return 0
        taken = 0
        for posted in self._outbox.due(now):
            if posted.id in self._refused and not self._refused[posted.id].is_due(now):
                continue
            try:
                self._publish(posted.work)
            except RetryLater as error:
                self._note_broker_down(now, str(error))
                return taken
            except Exception:
                # this message alone is at fault: it waits, the others are published
                self._refused.setdefault(posted.id, RetryTimer(MESSAGE_BACKOFF)).failed(now)
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
        if not self._broker.failures:
            log.error("broker_unavailable", why=why, effect="work stays in the ledger and is retried")
        self._broker.failed(now)

    def _note_broker_up(self, now: datetime) -> None:
        down_s = round(self._broker.failing_for_s(now), 1)
        if self._broker.succeeded():
            log.info("broker_recovered", down_s=down_s)
