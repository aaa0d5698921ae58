"""Delivery by mail: results to the stroke team, and what was not analysed or failed to the operators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Literal

from corewatch.destinations import EMAIL, OPERATORS
from corewatch.errors import OperatorNeeded, RetryLater
from corewatch.letters import Event, LetterKind, LetterState
from outputs.case import ReportedCase
from outputs.destinations.base import Delivered
from outputs.destinations.receipts import MemoryReceipts, Receipts
from outputs.mail.case_mail import compose, digest_key, digest_message_id, event_key, message_id, thread_id
from outputs.mail.digest_mail import compose_digest
from outputs.mail.sender import Letter, Postman
from outputs.mail.smtp import MailServer, Refusal, session
from outputs.source_header import named_fields, read_header

When = Literal["always", "positive", "never"]


@dataclass(frozen=True, slots=True)
class MailList:
    """Recipients who get one message together: they see each other's addresses."""

    name: str
    to: tuple[str, ...]
    when: When = "always"


@dataclass(frozen=True, slots=True)
class EmailParameters:
    """The mail server and who gets what."""

    server: MailServer
    sender: str
    to: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    """Empty: the list `to` gets what was not analysed, too."""
    when: When = "always"
    lists: tuple[MailList, ...] = ()
    """Lists besides `to`, each with a `when` of its own."""
    patient_fields: tuple[str, ...] = ()
    """DICOM keywords that may stand in the body, never in the subject."""
    thread_key: bytes = b""
    """Key of the hash that gathers the mails of a study."""
    link: Callable[[str, str], str] | None = None
    """(case id, name of the list) -> address of the case's page."""


class MailDestination(ABC):
    """What all kinds of mail share: composing, sending, and remembering who has it."""

    name: str
    paced = True
    """Its mails count in the hour, and may go into a digest."""
    alerts = False
    """Brings alerts, which go out alone while they are recent."""

    lead = ""
    """Begins subject and verdict."""
    note = ""
    """Why the recipients get it, where that is not plain."""

    def __init__(
        self,
        parameters: EmailParameters,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        receipts: Receipts | None = None,
    ) -> None:
        self._mail = parameters
        self._clock = clock
        self._receipts = MemoryReceipts() if receipts is None else receipts
        self.server = str(parameters.server)

    @abstractmethod
    def skip_reason(self, case: ReportedCase) -> str | None:
        """None if the case is to be told of, else the reason to skip it."""

    @abstractmethod
    def lists(self, case: ReportedCase) -> tuple[MailList, ...]:
        """Who hears of this case, each recipient once; one message for each of these lists."""

    @abstractmethod
    def kind(self, case: ReportedCase) -> LetterKind:
        """What the mail is for."""

    def event(self, case: ReportedCase) -> Event:
        """What the mail tells of."""
        return Event(event_key(case, self.name), case.case_id, self.name, self.kind(case))

    def deliver(self, case: ReportedCase) -> Delivered:
        """Send one message per recipient list, to those who have not taken it yet."""
        event = self.event(case)
        letters = [self._letter(case, event, recipients) for recipients in self.lists(case)]
        posted = Postman(self._mail.server, self._mail.sender, self._receipts).post(letters)
        return Delivered(f"{self._mail.server}: {posted}", self._clock())

    def deliver_together(self, digest: str, cases: Sequence[ReportedCase]) -> dict[str, Delivered | RetryLater | OperatorNeeded]:
        """Send one mail about many cases to each list that hears of any of them.

        Returns
        -------
        By case id: delivered, or why one of those who are to hear of this case has not got the mail. One mailbox that is refused
        holds up no case that it is not to be told of.

        Raises
        ------
        RetryLater, OperatorNeeded
            The server is away, or wants nothing of us.
        """
        groups: dict[MailList, list[ReportedCase]] = {}
        for case in cases:
            for one in self._lacking(case, digest):
                groups.setdefault(replace(one, when="always"), []).append(case)
        letters = {self._digest_letter(digest, recipients, group): group for recipients, group in groups.items()}
        postman = Postman(self._mail.server, self._mail.sender, self._receipts)
        posting = postman.bring(list(letters))
        refused: dict[str, list[Refusal]] = {case.case_id: [] for case in cases}
        for letter, refusals in posting.refused.items():
            for case in letters[letter]:
                refused[case.case_id] += refusals
        told = Delivered(f"{self._mail.server}: in digest {digest}, {posting.posted}", self._clock())
        return {case_id: postman.problem(refusals) or told for case_id, refusals in refused.items()}

    def _lacking(self, case: ReportedCase, digest: str) -> tuple[MailList, ...]:
        """Who hears of a case, without those who have heard of it by an earlier mail, be it another digest.

        Those who have it by this same digest stay: by its recipients it is known when it is gone on with.
        """
        known = self._receipts.known(self.event(case))
        has = {
            recipient
            for recipient, receipt in known.items()
            if receipt.state in (LetterState.ACCEPTED, LetterState.UNKNOWN) and not receipt.message_id.startswith(f"<{digest}.")
        }
        lists = (replace(one, to=tuple(recipient for recipient in one.to if recipient not in has)) for one in self.lists(case))
        return tuple(one for one in lists if one.to)

    def _digest_letter(self, digest: str, recipients: MailList, cases: Sequence[ReportedCase]) -> Letter:
        key = digest_key(digest, self.name, recipients.name, recipients.to)
        identity = digest_message_id(digest, key, self._mail.sender)
        link = self._mail.link

        def make(repeated: bool) -> EmailMessage:
            return compose_digest(
                cases,
                sender=self._mail.sender,
                recipients=recipients.to,
                message_id=identity,
                sent_at=self._clock(),
                repeated=repeated,
                link=None if link is None else lambda case_id: link(case_id, recipients.name),
            )

        event, covers = Event(key, digest, self.name, LetterKind.DIGEST), tuple(self.event(case) for case in cases)
        return Letter(event, identity, recipients.to, make, covers)

    def _letter(self, case: ReportedCase, event: Event, recipients: MailList) -> Letter:
        identity = message_id(event.key, recipients.name, self._mail.sender)
        thread = None if case.study_uid is None else thread_id(case.study_uid, self._mail.thread_key, self._mail.sender)
        link = None if self._mail.link is None else self._mail.link(case.case_id, recipients.name)

        def make(repeated: bool) -> EmailMessage:
            return compose(
                case,
                sender=self._mail.sender,
                recipients=recipients.to,
                message_id=identity,
                sent_at=self._clock(),
                summary_png=_summary(case),
                patient=self._patient(case),
                thread=thread,
                link=link,
                repeated=repeated,
                lead=self.lead,
                note=self.note,
            )

        return Letter(event, identity, recipients.to, make)

    def check(self) -> None:
        """Connect, secure, log in, NOOP."""
        with session(self._mail.server) as connection:
            connection.noop()

    def _patient(self, case: ReportedCase) -> tuple[tuple[str, str], ...]:
        if not self._mail.patient_fields or case.source_header is None:
            return ()
        return named_fields(read_header(case.source_header), self._mail.patient_fields)


class EmailDestination(MailDestination):
    """Results to the stroke team, and to whoever belongs to where the case came in."""

    name = EMAIL
    alerts = True

    def skip_reason(self, case: ReportedCase) -> str | None:
        """Skip what has no finding, and what the settings do not want mailed."""
        if case.result.finding is None or case.failed:
            return "no finding: the operators' mail tells it"
        if self.lists(case):
            return None
        known = [one for one in self._all(case) if one.to]
        if not known:
            return "no recipients (deliver.email.to is empty)"
        if all(one.when == "never" for one in known):
            return "mail is switched off (deliver.email.when: never)"
        return "no alert, and only alerts are mailed (deliver.email.when: positive)"

    def lists(self, case: ReportedCase) -> tuple[MailList, ...]:
        """The stroke team's lists that want this finding."""
        alert = case.result.finding is not None and case.result.finding.alert
        return disjoint(one for one in self._all(case) if one.when == "always" or (one.when == "positive" and alert))

    def _all(self, case: ReportedCase) -> tuple[MailList, ...]:
        mail = self._mail
        return (MailList("team", mail.to, mail.when), *mail.lists, MailList("sender", case.extra_recipients, mail.when))

    def kind(self, case: ReportedCase) -> LetterKind:
        """An alert, or a result without one."""
        finding = case.result.finding
        return LetterKind.ALERT if finding is not None and finding.alert else LetterKind.RESULT


class OperatorsDestination(MailDestination):
    """What was not analysed and what failed, to the operators and to whoever belongs to where the case came in."""

    name = OPERATORS

    def skip_reason(self, case: ReportedCase) -> str | None:
        """Skip what was analysed."""
        if case.result.finding is not None and not case.failed:
            return "analysed: nothing for the operators"
        return None if self.lists(case) else "no recipients (deliver.email.operators and .to are empty)"

    def lists(self, case: ReportedCase) -> tuple[MailList, ...]:
        """The operators, and who sent it."""
        general = MailList("operators", self._mail.operators or self._mail.to)
        return disjoint((general, MailList("sender", case.extra_recipients)))

    def kind(self, case: ReportedCase) -> LetterKind:
        """A notice."""
        return LetterKind.NOTICE


def disjoint(lists: Iterable[MailList]) -> tuple[MailList, ...]:
    """The same lists, each recipient in the first of them only; empty ones left out."""
    seen: set[str] = set()
    found = []
    for one in lists:
        to = tuple(recipient for recipient in dict.fromkeys(one.to) if recipient.casefold() not in seen)
        seen |= {recipient.casefold() for recipient in to}
        if to:
            found.append(replace(one, to=to))
    return tuple(found)


def _summary(case: ReportedCase) -> bytes | None:
    """The summary page of a finding; operators get words alone."""
    if case.result.finding is None or case.failed or not case.folder.summary.is_file():
        return None
    return case.folder.summary.read_bytes()
