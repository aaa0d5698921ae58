"""Sends mails so that each recipient gets each of them once, as far as SMTP allows.

`corewatch.mail_receipts` says what is recorded, and what is done when it is not known whether a mail was accepted.
"""

from __future__ import annotations

import smtplib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from functools import partial
from typing import Final

import structlog

from config.delivery import EmailSettings
from corewatch.errors import DeliveryWithdrawn, OperatorNeeded, RetryLater
from corewatch.mail_receipts import MOST_COPIES, MailEvent, MailReceiptState, NextStep, next_step
from outputs.mail.receipts import MailReceipts
from outputs.mail.reduced import is_reducible, reduced, reduction_may_help
from outputs.mail.smtp import Refusal, exceeds_limit, is_open, session, submit

log = structlog.get_logger()

_MOST_BROKEN_CONNECTIONS: Final = 2
"""Connections that may break off during a mail before the other mails wait as well."""

_BROKE_OFF: Final = "the connection broke off while it was sent"


@dataclass(frozen=True, slots=True, eq=False)
class OutgoingMail:
    """One message to one list of recipients.

    Attributes
    ----------
    compose
        Makes the message. Its argument is True for recipients who perhaps have it already.
    covers
        The events that a digest reports: a recipient who has the digest is not mailed about them again.
    """

    event: MailEvent
    message_id: str
    recipients: tuple[str, ...]
    compose: Callable[[bool], EmailMessage]
    covers: tuple[MailEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class SendReport:
    """Outcome of sending some mails.

    Attributes
    ----------
    accepted
        Number of recipients for whom the server accepted a mail now.
    unknown
        Number of recipients of whom it is not known whether they have it, and who are not sent it again.
    refused
        The refusals of each mail that a recipient has not got.
    reduced
        Why a mail was accepted as plain text without pictures only; empty where none was.
    """

    accepted: int
    unknown: int
    refused: Mapping[OutgoingMail, tuple[Refusal, ...]]
    reduced: str = ""

    def __str__(self) -> str:
        words = f"accepted for {_count(self.accepted)}" if self.accepted else "all recipients have it already"
        words += f", as plain text without the picture ({self.reduced})" if self.reduced else ""
        return words + (f"; not known whether {_count(self.unknown)} have it, and not sent again" if self.unknown else "")


@dataclass(frozen=True, slots=True, eq=False)
class _Turn:
    """A mail and the recipients who are sent it now.

    Attributes
    ----------
    reduced
        Why it is sent as plain text without pictures; empty: it is sent whole.
    """

    mail: OutgoingMail
    recipients: tuple[str, ...]
    repeated: bool
    reduced: str = ""


@dataclass(slots=True)
class _Progress:
    """What has become of the turns so far."""

    turns: deque[_Turn]
    accepted: int = 0
    refused: dict[OutgoingMail, tuple[Refusal, ...]] = field(default_factory=dict)
    reduced: str = ""
    submitted: int = 0


class MailSender:
    """Sends mails over one SMTP session and records who has them.

    A mail whose connection breaks off, or whose server ends it, does not stop the others.
    """

    def __init__(self, settings: EmailSettings, receipts: MailReceipts) -> None:
        self._settings = settings
        self._receipts = receipts

    def send(self, mails: Sequence[OutgoingMail]) -> SendReport:
        """Send each mail to those of its recipients who lack it. Refusals of single recipients are reported, not raised.

        Raises
        ------
        RetryLater, OperatorNeeded
            The server cannot be reached, or refuses us.
        DeliveryWithdrawn
            It must no longer be sent.
        """
        unknown = sum(self._give_up(mail) for mail in mails)
        progress = _Progress(deque(turn for mail in mails for turn in self._turns(mail)))
        broken = list[RetryLater]()
        while progress.turns:
            before = progress.submitted
            try:
                with session(self._settings) as connection:
                    while progress.turns and is_open(connection):
                        self._submit(connection, progress)
            except RetryLater as error:
                broken.append(error)
            if progress.submitted == before or len(broken) == _MOST_BROKEN_CONNECTIONS:
                break  # no connection can be made, or none lasts
        if broken:
            raise broken[0]
        return SendReport(progress.accepted, unknown, progress.refused, progress.reduced)

    def refusal_error(self, refusals: Sequence[Refusal]) -> RetryLater | OperatorNeeded | None:
        """The error that refusals of recipients amount to: one temporary refusal is retried, whatever the others say."""
        if not refusals:
            return None
        words = "; ".join(f"{refusal.recipient}: {refusal.code} {refusal.words}" for refusal in refusals)
        if any(refusal.temporary for refusal in refusals):
            return RetryLater(f"{self._settings.server} refused the mail for now: {words}")
        return OperatorNeeded(f"{self._settings.server} refused the mail: {words}", "check these addresses and its log")

    def _submit(self, connection: smtplib.SMTP, progress: _Progress) -> None:
        """Submit the next turn. Recipients whose server may take the mail without pictures get a turn of their own."""
        turn = progress.turns.popleft()
        progress.submitted += 1
        event, mail = turn.mail.event, turn.mail
        message, offered = mail.compose(turn.repeated), set[str]()
        why = turn.reduced or (exceeds_limit(connection, message) if is_reducible(message) else "")
        whole = is_reducible(message) and not why
        if why:
            message = reduced(message, why) if is_reducible(message) else message
        refusals = submit(connection, message, self._settings.sender, turn.recipients, partial(self._begin, mail, offered))
        for refusal in refusals:
            words = f"{refusal.code} {refusal.words}"
            self._receipts.refuse(event, refusal.recipient, words, offered=refusal.recipient in offered)
        accepted = sorted(set(turn.recipients) - {refusal.recipient for refusal in refusals})
        self._receipts.end(event, accepted, MailReceiptState.ACCEPTED, covers=mail.covers)
        progress.accepted += len(accepted)
        if accepted and why:
            progress.reduced = why
            log.warning("mail_sent_without_picture", about=event.about, server=self._settings.server, why=why)
        again = [refusal for refusal in refusals if whole and reduction_may_help(refusal)]
        if again:
            to, words = tuple(refusal.recipient for refusal in again), " ".join(f"{again[0].code} {again[0].words}".split())
            progress.turns.appendleft(_Turn(mail, to, turn.repeated, reduced=words))
        if left := tuple(refusal for refusal in refusals if refusal not in again):
            progress.refused[mail] = (*progress.refused.get(mail, ()), *left)

    def _begin(self, mail: OutgoingMail, offered: set[str], recipients: tuple[str, ...]) -> None:
        withdrawn = self._receipts.begin(mail.event, mail.message_id, recipients)
        if withdrawn is not None:
            raise DeliveryWithdrawn(withdrawn)
        offered.update(recipients)

    def _turns(self, mail: OutgoingMail) -> list[_Turn]:
        """At most two: recipients who lack the mail, and recipients who perhaps have it."""
        known = self._receipts.known(mail.event)
        found: list[_Turn] = []
        for step in (NextStep.SEND, NextStep.REPEAT):
            to = tuple(r for r in mail.recipients if next_step(known.get(r), mail.event.kind) is step)
            # some filters break off instead of refusing: the last copy has nothing that they could dislike
            is_last = step is NextStep.REPEAT and any(known[r].copies == MOST_COPIES - 1 for r in to)
            if to:
                found.append(_Turn(mail, to, step is NextStep.REPEAT, reduced=_BROKE_OFF if is_last else ""))
        return found

    def _give_up(self, mail: OutgoingMail) -> int:
        known = self._receipts.known(mail.event)
        lost = [r for r in mail.recipients if next_step(known.get(r), mail.event.kind) is NextStep.GIVE_UP]
        if lost:
            self._receipts.end(
                mail.event, lost, MailReceiptState.UNKNOWN, "the connection or the worker ended before the answer came"
            )
        return len(lost)


def _count(recipients: int) -> str:
    return f"{recipients} recipient{'s' if recipients != 1 else ''}"
