"""Delivery by mail: results to the stroke team, and what was not analysed or failed to the operators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Literal

from corewatch.errors import CorewatchError, OperatorNeeded, RetryLater
from outputs.case import ReportedCase
from outputs.destinations.base import Delivered
from outputs.destinations.receipts import Receipts
from outputs.mail import compose, message_id
from outputs.smtp import MailServer, Refusal, session, submit
from outputs.source import named_fields, read_header


@dataclass(frozen=True, slots=True)
class EmailParameters:
    """The mail server and who gets what."""

    server: MailServer
    sender: str
    to: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    """Empty: the list `to` gets what was not analysed, too."""
    when: Literal["always", "positive", "never"] = "always"
    patient_fields: tuple[str, ...] = ()
    """DICOM keywords that may stand in the body, never in the subject."""


@dataclass(frozen=True, slots=True, eq=False)
class _Letter:
    """A message and those of its recipients who have not taken it yet."""

    identity: str
    message: EmailMessage
    missing: tuple[str, ...]


class _MailDestination(ABC):
    """What both kinds of mail share: composing, sending, and remembering who has it."""

    name: str

    def __init__(self, parameters: EmailParameters, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._mail = parameters
        self._clock = clock

    @abstractmethod
    def _lists(self, case: ReportedCase) -> list[tuple[str, ...]]:
        """One message for each of these lists."""

    def deliver(self, case: ReportedCase) -> Delivered:
        """Send one message per recipient list, to those who have not taken it yet."""
        receipts = Receipts(case.folder.path / f"{self.name}-receipts.json")
        letters = self._letters(case, receipts)
        if not letters:
            return Delivered("all recipients have it already", self._clock())
        refused: list[Refusal] = []
        taken: dict[str, frozenset[str]] = {}
        try:
            with session(self._mail.server) as connection:
                for letter in letters:
                    refusals = submit(connection, letter.message, self._mail.sender, letter.missing)
                    taken[letter.identity] = frozenset(letter.missing) - {refusal.recipient for refusal in refusals}
                    refused += refusals
        finally:
            for identity, recipients in taken.items():
                receipts.add(identity, recipients)
        self._judge(refused)
        count = sum(map(len, taken.values()))
        return Delivered(f"taken by {self._mail.server} for {count} recipient{'s' if count != 1 else ''}", self._clock())

    def _letters(self, case: ReportedCase, receipts: Receipts) -> list[_Letter]:
        letters = []
        for recipients in self._lists(case):
            identity = message_id(case, self.name, recipients, self._mail.sender)
            accepted = receipts.accepted(identity)
            missing = tuple(recipient for recipient in recipients if recipient not in accepted)
            if missing:
                message = compose(
                    case,
                    sender=self._mail.sender,
                    recipients=recipients,
                    message_id=identity,
                    sent_at=self._clock(),
                    summary_png=_summary(case),
                    patient=self._patient(case),
                )
                letters.append(_Letter(identity, message, missing))
        return letters

    def check(self) -> str | None:
        """Connect, secure, log in, NOOP."""
        try:
            with session(self._mail.server) as connection:
                connection.noop()
        except CorewatchError as error:
            return str(error)
        return None

    def _judge(self, refused: list[Refusal]) -> None:
        if not refused:
            return
        words = "; ".join(f"{refusal.recipient}: {refusal.code} {refusal.words}" for refusal in refused)
        if any(refusal.temporary for refusal in refused):
            raise RetryLater(f"{self._mail.server} refused recipients for now: {words}")
        raise OperatorNeeded(f"{self._mail.server} refused recipients: {words}; check the addresses, the others have the mail")

    def _patient(self, case: ReportedCase) -> tuple[tuple[str, str], ...]:
        if not self._mail.patient_fields or case.source_header is None:
            return ()
        return named_fields(read_header(case.source_header), self._mail.patient_fields)


class EmailDestination(_MailDestination):
    """Results to the stroke team, and to whoever belongs to where the case came in."""

    name = "email"

    def applies(self, case: ReportedCase) -> str | None:
        """Skip what has no finding, and what the settings do not want mailed."""
        finding = case.result.finding
        if finding is None or case.failed:
            return "no finding: the operators' mail tells it"
        if self._mail.when == "never":
            return "mail is switched off (deliver.email.when: never)"
        if self._mail.when == "positive" and not finding.alert:
            return "no alert, and only alerts are mailed (deliver.email.when: positive)"
        return None if self._lists(case) else "no recipients (deliver.email.to is empty)"

    def _lists(self, case: ReportedCase) -> list[tuple[str, ...]]:
        return _disjoint(self._mail.to, case.extra_recipients)


class OperatorsDestination(_MailDestination):
    """What was not analysed and what failed, to the operators and to whoever belongs to where the case came in."""

    name = "operators"

    def applies(self, case: ReportedCase) -> str | None:
        """Skip what was analysed."""
        if case.result.finding is not None and not case.failed:
            return "analysed: nothing for the operators"
        return None if self._lists(case) else "no recipients (deliver.email.operators and .to are empty)"

    def _lists(self, case: ReportedCase) -> list[tuple[str, ...]]:
        return _disjoint(self._mail.operators or self._mail.to, case.extra_recipients)


def _disjoint(general: tuple[str, ...], extra: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Both lists without repeats; empty ones left out."""
    first = tuple(dict.fromkeys(general))
    second = tuple(recipient for recipient in dict.fromkeys(extra) if recipient not in first)
    return [recipients for recipients in (first, second) if recipients]


def _summary(case: ReportedCase) -> bytes | None:
    """The summary page of a finding; operators get words alone."""
    if case.result.finding is None or case.failed or not case.folder.summary.is_file():
        return None
    return case.folder.summary.read_bytes()
