"""A mail to the operators about the site itself, not about a case: a worker without its model, a disk without room."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid

import structlog

from config.settings import Settings
from corewatch import RESEARCH_LABEL
from corewatch.clock import utc_now
from corewatch.errors import OperatorNeeded, RetryLater
from outputs.mail.composition import domain_of, mark_automatic
from outputs.mail.smtp import session, submit
from worker.delivery.destinations import mail_server_of

log = structlog.get_logger()


Letter = Callable[[str, tuple[str, ...], str], EmailMessage]
"""Makes the mail out of sender, recipients and the problem."""


def no_model_mail(sender: str, recipients: tuple[str, ...], problem: str) -> EmailMessage:
    """What the operators read when a worker has no model."""
    text = (
        f"The detection worker on {socket.gethostname()} cannot load its model and takes no work:\n\n"
        f"  {problem}\n\n"
        "Cases wait; none is lost. `corewatch doctor` shows what is wrong, `corewatch model install` brings a model.\n"
        "The worker tries again by itself and goes on without a restart.\n"
    )
    return _mail(sender, recipients, "no-model", "The worker has no model, cases wait", text)


def disk_full_mail(sender: str, recipients: tuple[str, ...], problem: str) -> EmailMessage:
    """What the operators read when the data folder's disk is nearly full."""
    text = (
        f"The disk of the data folder on {socket.gethostname()} is nearly full:\n\n"
        f"  {problem}\n\n"
        "Images that are sent now are refused (0xA700, out of resources); their senders keep them and must send them again.\n"
        "What was acknowledged is kept. Make room or move `data_dir` to a larger disk; `corewatch doctor` shows how much is free.\n"
        "The listener goes on by itself. There is no further mail until there was room for ten minutes.\n"
    )
    return _mail(sender, recipients, "disk-full", "The disk is nearly full, images are refused", text)


def _mail(sender: str, recipients: tuple[str, ...], name: str, subject: str, text: str) -> EmailMessage:
    """A mail about the site: what is wrong, what becomes of the cases, what to do. Free of patient data."""
    message = EmailMessage()
    message["Subject"] = f"[corewatch] {subject}"
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Date"] = format_datetime(utc_now())
    message["Message-ID"] = make_msgid(name, domain=domain_of(sender))
    mark_automatic(message)
    message["Importance"] = "high"
    message.set_content(f"{text}\n{RESEARCH_LABEL}\n")
    return message


def tell_operators(settings: Settings, letter: Letter, problem: str) -> bool:
    """Send the mail; whether anybody took it. A mail server that is away is logged: the caller comes again."""
    mail = settings.deliver.email
    if mail is None or not mail.operators:
        return True  # nobody is to be told by mail; the log and the monitor say it
    message = letter(mail.sender, mail.operators, problem)
    try:
        with session(mail_server_of(mail)) as connection:
            refused = submit(connection, message, mail.sender, mail.operators)
    except (RetryLater, OperatorNeeded) as error:
        log.error("the operators cannot be told by mail", subject=message["Subject"], why=str(error))
        return False
    for refusal in refused:
        log.error("an operator was not told by mail", subject=message["Subject"], why=f"{refusal.code} {refusal.words}")
    return len(refused) < len(mail.operators)


class Alarm:
    """Tells once, from a thread of its own: the caller's loop goes on while the mail server thinks."""

    def __init__(self, tell: Callable[[str], bool]) -> None:
        self._tell = tell
        self._told = False
        self._at_it: threading.Thread | None = None

    def ring(self, problem: str) -> None:
        """Tell, unless somebody was told already or is being told now."""
        if self._told or (self._at_it is not None and self._at_it.is_alive()):
            return
        self._at_it = threading.Thread(target=self._run, args=(problem,), name="no-model-mail", daemon=True)
        self._at_it.start()

    def reset(self) -> None:
        """The next time is another one."""
        self._told = False

    def wait(self, seconds: float) -> None:
        """Until the mail that is under way is out."""
        if self._at_it is not None:
            self._at_it.join(seconds)

    def _run(self, problem: str) -> None:
        self._told = self._tell(problem)
