"""Age of the oldest case in each state: one mail to the operators when cases wait for too long, and one when it is over.

A program, a queue or a destination that hangs shows here, whatever the cause. A mail that the server does not take is sent later.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import structlog

from config.settings import Settings
from corewatch.states import CaseState
from corewatch.waiting import QUEUE_FOR, Wait, WaitAlarm, oldest_of_each_state
from foundation.backoff import Backoff, RetryTimer
from ledger.store import Ledger

log = structlog.get_logger()

MAIL_BACKOFF: Final = Backoff.constant(60.0)
"""Pause after the mail server took no mail."""


class Notice(NamedTuple):
    """One mail to send: whether the wait of the state begins or is over, and its sentence."""

    state: CaseState
    begins: bool
    sentence: str


MailOperators = Callable[[Notice], bool]
"""Mails a notice to the operators; returns whether the mail was sent."""


class WaitingCasesWatch:
    """Watches how long cases wait. Its state is in memory: a restart during a long wait mails once more."""

    def __init__(
        self,
        ledger: Ledger,
        settings: Settings,
        mail_operators: MailOperators | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._alarm = WaitAlarm(timedelta(minutes=settings.work.alarm_min))
        self._mail_operators = mail_operators or _mail_with(settings)
        self._clock = clock
        self._unsent: list[Notice] = []
        self._mail = RetryTimer(MAIL_BACKOFF)

    def step(self, now: datetime) -> bool:
        """Look at the cases; returns whether some have waited for too long."""
        waits = oldest_of_each_state(self._ledger.waiting_cases(), now)
        begun, over = self._alarm.observe(waits)
        for state in begun:
            wait = waits[state]
            log.error(
                "cases_wait", state=str(state), cases=wait.count, oldest=wait.oldest.case_id, minutes=_minutes(wait.age),
                destination=wait.oldest.destination or None,
            )  # fmt: skip
            self._unsent.append(Notice(state, True, waiting_sentence(state, wait)))
        for state in over:
            log.info("cases_go_on", state=str(state))
            self._discard_or_report_end(state)
        self._send()
        return bool(self._alarm.active)

    def _discard_or_report_end(self, state: CaseState) -> None:
        """Say that it is over to those who know that it began."""
        if any(notice.state is state for notice in self._unsent):
            self._unsent = [notice for notice in self._unsent if notice.state is not state]
        else:
            self._unsent.append(Notice(state, False, f"no case waits too long in {state} any longer."))

    def _send(self) -> None:
        now = self._clock()
        while self._unsent and self._mail.is_due(now):
            if not self._mail_operators(self._unsent[0]):
                self._mail.failed(now)
                return
            self._unsent.pop(0)
            self._mail.succeeded()


def waiting_sentence(state: CaseState, wait: Wait) -> str:
    """What waits, since when, and where to look."""
    count = "1 case is" if wait.count == 1 else f"{wait.count} cases are"
    if state is CaseState.RECEIVING:
        cause = "an association that brings more images is still open, or `corewatch watch` hangs"
    elif wait.oldest.destination:
        cause = f"the destination {wait.oldest.destination} does not take it, or the worker of the queue deliver hangs"
    else:
        cause = f"look at the worker of the queue {QUEUE_FOR[state]} and at Redis"
    return f"{count} in {state}; the oldest, {wait.oldest.case_id}, has waited for {_minutes(wait.age)} minutes: {cause}."


def _minutes(age: timedelta) -> int:
    return int(age.total_seconds() // 60)


def _mail_with(settings: Settings) -> MailOperators:
    def mail(notice: Notice) -> bool:
        # imported when first needed: composing mail loads much that the daemon has no other use for
        from outputs.mail.operator_notice import cases_go_on_notice, cases_wait_notice, send_notice

        compose = cases_wait_notice if notice.begins else cases_go_on_notice
        return send_notice(settings.deliver.email, compose(notice.sentence))

    return mail
