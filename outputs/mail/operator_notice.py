"""Mail to the operators about the site itself, not about a case: a worker without its model, a disk without room.

The daemon and the workers both send such notices.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid

import structlog

from config.delivery import EmailSettings
from corewatch import RESEARCH_LABEL
from corewatch.clock import utc_now
from corewatch.errors import OperatorNeeded, RetryLater
from outputs.mail.case_mail import domain_of, mark_automatic
from outputs.mail.smtp import session, submit

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class OperatorNotice:
    """What is wrong with the site, what happens to the cases, and what to do. Free of patient data.

    Attributes
    ----------
    topic
        Begins the Message-ID.
    """

    topic: str
    subject: str
    text: str


def no_model_notice(problem: str) -> OperatorNotice:
    """A worker has no model."""
    return OperatorNotice(
        "no-model",
        "The worker has no model, cases wait",
        f"The detection worker on {socket.gethostname()} cannot load its model and takes no work:\n\n"
        f"  {problem}\n\n"
        "Cases wait; none is lost. `corewatch doctor` shows what is wrong, `corewatch model install` installs a model.\n"
        "The worker retries by itself and goes on without a restart.\n",
    )


def disk_full_notice(problem: str) -> OperatorNotice:
    """The data folder's disk is nearly full."""
    return OperatorNotice(
        "disk-full",
        "The disk is nearly full, images are refused",
        f"The disk of the data folder on {socket.gethostname()} is nearly full:\n\n"
        f"  {problem}\n\n"
        "Images that are sent now are refused (0xA700, out of resources); their senders keep them and must send them again.\n"
        "What was acknowledged is kept. Make room or move `data_dir` to a larger disk; `corewatch doctor` shows how much is free.\n"
        "The listener goes on by itself. The next mail is sent only after there was room for ten minutes.\n",
    )


def cases_wait_notice(problem: str) -> OperatorNotice:
    """Cases have waited in one state for too long."""
    return OperatorNotice(
        "cases-wait",
        "Cases wait and are not reported yet",
        f"On {socket.gethostname()} cases have waited longer than `work.alarm_min`:\n\n"
        f"  {problem}\n\n"
        "Read the images of these patients without the analysis. None of the cases is lost.\n"
        "`corewatch doctor` shows what holds them up, `corewatch cases list` shows the cases. Another mail says when it is over.\n",
    )


def cases_go_on_notice(problem: str) -> OperatorNotice:
    """Cases no longer wait in one state."""
    return OperatorNotice(
        "cases-go-on",
        "Cases no longer wait",
        f"On {socket.gethostname()} the cases that had waited longer than `work.alarm_min` go on:\n\n  {problem}\n",
    )


def refused_notice(problem: str) -> OperatorNotice:
    """The listener refused images of a sender."""
    return OperatorNotice(
        "images-refused",
        "Images of a sender are refused",
        f"The DICOM listener on {socket.gethostname()} has refused images:\n\n"
        f"  {problem}\n\n"
        "They are not analysed, and the sender may report that to nobody. The log gives each reason (`instance_refused`).\n"
        "The next mail about this sender is sent in an hour at the earliest.\n",
    )


def compose_notice(notice: OperatorNotice, sender: str, recipients: tuple[str, ...]) -> EmailMessage:
    """The mail of a notice."""
    message = EmailMessage()
    message["Subject"] = f"[corewatch] {notice.subject}"
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Date"] = format_datetime(utc_now())
    message["Message-ID"] = make_msgid(notice.topic, domain=domain_of(sender))
    mark_automatic(message)
    message["Importance"] = "high"
    message.set_content(f"{notice.text}\n{RESEARCH_LABEL}\n")
    return message


def send_notice(settings: EmailSettings | None, notice: OperatorNotice) -> bool:
    """Send a notice to the operators; returns whether the mail server took it for at least one of them.

    True too where the settings name nobody who could receive it: then the log and the queue monitor alone show the problem. A mail
    server that cannot be reached is logged; the caller retries.
    """
    recipients = () if settings is None else settings.operator_addresses
    if settings is None or not recipients:
        log.error("operator_notice_without_recipient", topic=notice.topic, setting="deliver.email.operators")
        return True
    message = compose_notice(notice, settings.sender, recipients)
    try:
        with session(settings) as connection:
            refused = submit(connection, message, settings.sender, recipients)
    except (RetryLater, OperatorNeeded) as error:
        log.error("operator_notice_not_sent", topic=notice.topic, subject=message["Subject"], why=str(error))
        return False
    for refusal in refused:
        log.error("operator_notice_refused", topic=notice.topic, subject=message["Subject"], why=f"{refusal.code} {refusal.words}")
    return len(refused) < len(recipients)


class OneNoticePerOutage:
    """Sends one notice per outage from its own thread, so that a slow mail server does not hold up the caller's loop.

    Parameters
    ----------
    send
        Sends the mail about a problem; returns whether it was sent.
    """

    def __init__(self, send: Callable[[str], bool]) -> None:
        self._send = send
        self._sent = False
        self._thread: threading.Thread | None = None

    def report(self, problem: str) -> None:
        """Send the notice, unless this outage's notice was sent or is being sent."""
        if self._sent or (self._thread is not None and self._thread.is_alive()):
            return
        self._thread = threading.Thread(target=self._run, args=(problem,), name="operator-notice", daemon=True)
        self._thread.start()

    def reset(self) -> None:
        """The outage is over: the next one is reported again."""
        self._sent = False

    def wait(self, seconds: float) -> None:
        """Wait until the mail that is being sent is sent."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self, problem: str) -> None:
        self._sent = self._send(problem)
