"""Free disk of the data folder: one mail to the operators per shortage, since refused images have no case that could report it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog

from config.settings import Settings
from corewatch.shortage import Shortage
from corewatch.units import GIB
from foundation.backoff import Backoff, RetryTimer
from foundation.disk import FreeBytes, free_bytes

log = structlog.get_logger()

MAIL_BACKOFF: Final = Backoff.constant(60.0)
"""Pause after the mail server took no mail."""

MailOperators = Callable[[str], bool]
"""Mails a problem to the operators; returns whether the mail was sent."""


class DiskWatch:
    """Watches the free disk. Its state is in memory: a restart during a shortage mails once more."""

    def __init__(
        self,
        settings: Settings,
        mail_operators: MailOperators | None = None,
        free: FreeBytes = free_bytes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = settings.received_dir
        self._reserve = int(settings.listener.reserve_gib * GIB)
        self._mail_operators = mail_operators or _mail_with(settings)
        self._free, self._clock = free, clock
        self._shortage = Shortage()
        self._mail = RetryTimer(MAIL_BACKOFF)

    def step(self, _now: datetime) -> bool:
        """Measure the free disk; returns whether there is a shortage.

        Raises
        ------
        OSError
            The folder was removed, or its file system does not answer.
        """
        free, now, before = self._free(self._folder), self._clock(), self._shortage
        self._shortage = before.observe(free, self._reserve, now)
        details = {"free_gib": round(free / GIB, 2), "reserve_gib": round(self._reserve / GIB, 2)}
        if self._shortage.short and not before.short:
            log.error("disk_nearly_full", **details)
        elif before.short and not self._shortage.short:
            log.info("disk_usable_again", **details)
        if self._shortage.must_notify and self._mail.is_due(now):
            problem = f"{free / GIB:.2f} GiB are free; {self._reserve / GIB:.2f} GiB are kept free (listener.reserve_gib)."
            if self._mail_operators(problem):
                self._shortage = self._shortage.after_notifying()
                self._mail.succeeded()
            else:
                self._mail.failed(now)
        return self._shortage.short


def _mail_with(settings: Settings) -> MailOperators:
    def mail(problem: str) -> bool:
        # imported when first needed: composing mail loads much that the daemon has no other use for
        from outputs.mail.operator_notice import disk_full_notice, send_notice

        return send_notice(settings.deliver.email, disk_full_notice(problem))

    return mail
