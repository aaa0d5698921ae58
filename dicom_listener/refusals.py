"""Refused instances: a log line with the reason, and a mail to the operators, at most once per sender and hour.

A refused image has no case that could report it, and few senders tell anybody that an image was refused.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from config.delivery import EmailSettings
from dicom_listener.services import Sender
from dicom_listener.storage_status import OUT_OF_RESOURCES, StorageStatus
from foundation.throttle import LogThrottle

log = structlog.get_logger()

NOTICE_INTERVAL_S: Final = 3600.0
"""Between two mails about one sender."""
MOST_NOTICES: Final = 10
"""Mails about all senders together in that time."""

MAIL_ATTEMPTS: Final = 10
MAIL_RETRY_S: Final = 60.0
"""Attempts at one mail, and the pause between two of them."""

MailOperators = Callable[[str], bool]
"""Mails a problem to the operators; returns whether the mail was sent."""


class RefusalReports:
    """Reports refused instances. Thread-safe: all associations share it.

    Parameters
    ----------
    mail_operators
        Called on a thread of its own.
    monotonic
        Seconds of a monotonic clock.
    """

    def __init__(self, mail_operators: MailOperators, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._mail_operators = mail_operators
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._lines = LogThrottle()
        self._notices = LogThrottle(NOTICE_INTERVAL_S, MOST_NOTICES)

    def report(self, sender: Sender, status: StorageStatus) -> None:
        """An instance was refused. A full disk is logged and mailed by its own watch, once until it is over."""
        if status is OUT_OF_RESOURCES:
            return
        now_s = self._monotonic()
        with self._lock:
            line = self._lines.held_back(now_s, str(status.code), sender.ae_title, sender.host)
            notice = self._notices.held_back(now_s, sender.ae_title, sender.host)
        code = f"0x{status.code:04X}"
        if line is not None:
            log.warning(
                "instance_refused",
                status=code,
                reason=status.comment,
                remedy=status.advice,
                peer_ae_title=sender.ae_title,
                peer_host=sender.host,
                not_logged_before=line,
            )
        if notice is not None:
            problem = f"{sender.ae_title} at {sender.host}: {status.comment} ({code}). {status.advice}"
            # never on the association's thread: a slow mail server must not hold up the sender
            threading.Thread(target=self._mail, args=(problem,), name="refusal-notice", daemon=True).start()

    def _mail(self, problem: str) -> None:
        pause = threading.Event()
        for _ in range(MAIL_ATTEMPTS):
            if self._mail_operators(problem):
                return
            pause.wait(MAIL_RETRY_S)


def mail_with(settings: EmailSettings | None) -> MailOperators:
    """Mails to the operators of the settings."""

    def mail(problem: str) -> bool:
        # imported when first needed: composing mail loads much that the listener has no other use for
        from outputs.mail.operator_notice import refused_notice, send_notice

        return send_notice(settings, refused_notice(problem))

    return mail
