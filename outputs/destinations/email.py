"""Delivery by mail: results to the stroke team, and cases that were not analysed or failed to the operators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from email.message import EmailMessage
from typing import Literal

from config.delivery import DeliverSettings, EmailSettings
from corewatch.destinations import EMAIL, OPERATORS
from corewatch.errors import OperatorNeeded, RetryLater
from corewatch.mail_receipts import MailEvent, MailKind, MailReceiptState
from outputs.case import ReportedCase
from outputs.destinations.base import Delivered, DestinationContext, DestinationKind
from outputs.mail.case_mail import compose, digest_key, digest_message_id, event_key, message_id, thread_id
from outputs.mail.digest_mail import DigestLine, compose_digest, digest_line
from outputs.mail.refusal_words import MailWords
from outputs.mail.sender import MailSender, OutgoingMail
from outputs.mail.smtp import Refusal, session, try_recipients
from outputs.source_header import named_fields, read_header


@dataclass(frozen=True, slots=True)
class RecipientList:
    """Recipients who get one message together: they see each other's addresses.

    Attributes
    ----------
    when
        Which findings they get: all, alerts only, or none.
    """

    name: str
    to: tuple[str, ...]
    when: Literal["always", "positive", "never"] = "always"


class MailDestination(ABC):
    """Base of the destinations by mail: composes, sends, and records who has which mail."""

    name: str
    throttled = True
    """Its mails count against `deliver.email.max_per_hour`, and may be put into a digest."""
    must_not_wait = True
    carries_alerts = False
    """It sends alerts; a recent one is never put into a digest."""

    lead = ""
    """First words of subject and verdict."""

    def __init__(self, settings: EmailSettings, context: DestinationContext) -> None:
        self._settings = settings
        self._context = context
        self._sender = MailSender(settings, context.receipts)
        self.server = settings.server

    @abstractmethod
    def skip_reason(self, case: ReportedCase) -> str | None:
        """Why the case is not mailed; None: it is."""

    @abstractmethod
    def recipient_lists(self, case: ReportedCase) -> tuple[RecipientList, ...]:
        """The lists that get this case, a message each; no recipient is in two of them."""

    @abstractmethod
    def kind(self, case: ReportedCase) -> MailKind:
        """What the mail is for."""

    def event(self, case: ReportedCase) -> MailEvent:
        """The event that the mail reports."""
        return MailEvent(self.key(case), case.case_id, self.name, self.kind(case))

    def key(self, case: ReportedCase) -> str:
        """Hash of that event: the same for a repeat, and for no other event."""
        return event_key(case, self.name)

    def note(self, case: ReportedCase) -> str:
        """Why the recipients get it, where that is not plain."""
        return ""

    def words(self, case: ReportedCase) -> MailWords | None:
        """Words of a mail that does not report the finding itself; None: it does."""
        return None

    def line(self, case: ReportedCase) -> DigestLine:
        """What a digest says of the case."""
        return digest_line(case)

    def deliver(self, case: ReportedCase) -> Delivered:
        """Send one message per recipient list, to the recipients who lack it."""
        event = self.event(case)
        report = self._sender.send([self._case_mail(case, event, recipients) for recipients in self.recipient_lists(case)])
        error = self._sender.refusal_error([refusal for refusals in report.refused.values() for refusal in refusals])
        if error is not None:
            raise error
        return Delivered(f"{self.server}: {report}", self._context.clock())

    def deliver_together(self, digest: str, cases: Sequence[ReportedCase]) -> dict[str, Delivered | RetryLater | OperatorNeeded]:
        """Send one mail about many cases to each list that gets any of them.

        Returns
        -------
        By case id: delivered, or why a recipient of this case has not got the mail. A mailbox that is refused holds up only the
        cases that it is to get.

        Raises
        ------
        RetryLater, OperatorNeeded
            The server cannot be reached, or refuses us.
        """
        groups: dict[RecipientList, list[ReportedCase]] = {}
        for case in cases:
            for one in self._lists_without_receipt(case, digest):
                groups.setdefault(replace(one, when="always"), []).append(case)
        mails = {self._digest_mail(digest, recipients, group): group for recipients, group in groups.items()}
        report = self._sender.send(list(mails))
        refused: dict[str, list[Refusal]] = {case.case_id: [] for case in cases}
        for mail, refusals in report.refused.items():
            for case in mails[mail]:
                refused[case.case_id] += refusals
        delivered = Delivered(f"{self.server}: in digest {digest}, {report}", self._context.clock())
        return {case_id: self._sender.refusal_error(refusals) or delivered for case_id, refusals in refused.items()}

    def check(self) -> None:
        """Connect, secure, log in, and name sender and recipients as for a mail; nothing is sent."""
        to = self._settings
        recipients = tuple(dict.fromkeys((*to.to, *to.operators, *(address for one in to.lists for address in one.to))))
        with session(self._settings) as connection:
            refused = try_recipients(connection, self._settings.sender, recipients)
        if refused:
            words = "; ".join(f"{one.recipient}: {one.code} {one.words}" for one in refused)
            remedy = "correct the addresses in deliver.email, or let the server accept them"
            raise OperatorNeeded(f"{self.server} answers, and refuses {words}", remedy)

    def _lists_without_receipt(self, case: ReportedCase, digest: str) -> tuple[RecipientList, ...]:
        """The case's lists, without recipients who have the case by an earlier mail or by another digest.

        Recipients who have it by this same digest stay, so that a digest that is continued keeps its recipients and its key.
        """
        known = self._context.receipts.known(self.event(case))
        has = {
            recipient
            for recipient, receipt in known.items()
            if receipt.state in (MailReceiptState.ACCEPTED, MailReceiptState.UNKNOWN)
            and not receipt.message_id.startswith(f"<{digest}.")
        }
        lists = (replace(one, to=tuple(r for r in one.to if r not in has)) for one in self.recipient_lists(case))
        return tuple(one for one in lists if one.to)

    def _digest_mail(self, digest: str, recipients: RecipientList, cases: Sequence[ReportedCase]) -> OutgoingMail:
        key = digest_key(digest, self.name, recipients.name, recipients.to)
        identity = digest_message_id(digest, key, self._settings.sender)
        link = self._context.link

        def make(repeated: bool) -> EmailMessage:
            return compose_digest(
                cases,
                sender=self._settings.sender,
                recipients=recipients.to,
                message_id=identity,
                sent_at=self._context.clock(),
                repeated=repeated,
                link=None if link is None else lambda case_id: link(case_id, recipients.name),
                line=self.line,
            )

        event, covers = MailEvent(key, digest, self.name, MailKind.DIGEST), tuple(self.event(case) for case in cases)
        return OutgoingMail(event, identity, recipients.to, make, covers)

    def _case_mail(self, case: ReportedCase, event: MailEvent, recipients: RecipientList) -> OutgoingMail:
        context, sender = self._context, self._settings.sender
        identity = message_id(event.key, recipients.name, sender)
        thread = None if case.study_uid is None else thread_id(case.study_uid, context.thread_key, sender)
        link = None if context.link is None else context.link(case.case_id, recipients.name)
        words = self.words(case)

        def make(repeated: bool) -> EmailMessage:
            return compose(
                case,
                sender=sender,
                recipients=recipients.to,
                message_id=identity,
                sent_at=context.clock(),
                summary_png=None if words is not None else _summary_page(case),
                patient=self._patient(case),
                thread=thread,
                link=link,
                repeated=repeated,
                lead=self.lead,
                note=self.note(case),
                words=words,
            )

        return OutgoingMail(event, identity, recipients.to, make)

    def _patient(self, case: ReportedCase) -> tuple[tuple[str, str], ...]:
        if not self._settings.patient_fields or case.source_header is None:
            return ()
        return named_fields(read_header(case.source_header), self._settings.patient_fields)


class EmailDestination(MailDestination):
    """Results to the stroke team, and to the recipients that belong to the case's arrival."""

    name = EMAIL
    carries_alerts = True

    def event(self, case: ReportedCase) -> MailEvent:
        """The event that the mail reports: an alert is the same one before and after a later stage has failed."""
        return super().event(case.as_alert)

    def deliver(self, case: ReportedCase) -> Delivered:
        """Send the alert also where the pages could not be drawn."""
        return super().deliver(case.as_alert)

    def line(self, case: ReportedCase) -> DigestLine:
        """What a digest says of the case: an alert also where a later stage has failed."""
        return super().line(case.as_alert)

    def skip_reason(self, case: ReportedCase) -> str | None:
        """Skip a case without a finding, and a finding that no list wants."""
        case = case.as_alert
        if case.result.finding is None or case.failed:
            return "no finding: the operators' mail reports it"
        if self.recipient_lists(case):
            return None
        known = [one for one in self._all_lists(case) if one.to]
        if not known:
            return "no recipients (deliver.email.to is empty)"
        if all(one.when == "never" for one in known):
            return "mail is switched off (deliver.email.when: never)"
        return "no alert, and only alerts are mailed (deliver.email.when: positive)"

    def recipient_lists(self, case: ReportedCase) -> tuple[RecipientList, ...]:
        """The lists that want this finding."""
        wanted = {"always", "positive"} if case.is_positive else {"always"}
        return each_recipient_once(one for one in self._all_lists(case) if one.when in wanted)

    def kind(self, case: ReportedCase) -> MailKind:
        """An alert, or a result without one."""
        finding = case.result.finding
        return MailKind.ALERT if finding is not None and finding.alert else MailKind.RESULT

    def _all_lists(self, case: ReportedCase) -> tuple[RecipientList, ...]:
        settings = self._settings
        return (
            RecipientList("team", settings.to, settings.when),
            *(RecipientList(one.name, one.to, one.when) for one in settings.lists),
            RecipientList("sender", case.extra_recipients, settings.when),
        )


class OperatorsDestination(MailDestination):
    """Cases that were not analysed or failed, to the operators and to the recipients that belong to the case's arrival."""

    name = OPERATORS

    def skip_reason(self, case: ReportedCase) -> str | None:
        """Skip an analysed case."""
        if case.result.finding is not None and not case.failed:
            return "analysed: nothing for the operators"
        return None if self.recipient_lists(case) else "no recipients (deliver.email.operators, .to and .lists are empty)"

    def recipient_lists(self, case: ReportedCase) -> tuple[RecipientList, ...]:
        """The operators, and the sender's recipients."""
        operators = RecipientList("operators", self._settings.operator_addresses)
        return each_recipient_once((operators, RecipientList("sender", case.extra_recipients)))

    def kind(self, case: ReportedCase) -> MailKind:
        """A notice."""
        return MailKind.NOTICE


def each_recipient_once(lists: Iterable[RecipientList]) -> tuple[RecipientList, ...]:
    """The same lists with each recipient in the first of them only (upper and lower case are the same); empty lists left out."""
    seen: set[str] = set()
    found = []
    for one in lists:
        to = tuple(recipient for recipient in dict.fromkeys(one.to) if recipient.casefold() not in seen)
        seen |= {recipient.casefold() for recipient in to}
        if to:
            found.append(replace(one, to=to))
    return tuple(found)


def _summary_page(case: ReportedCase) -> bytes | None:
    """PNG of the summary page of a finding; None for a case without one, whose mail has words only."""
    if case.result.finding is None or case.failed or not case.folder.summary.is_file():
        return None
    return case.folder.summary.read_bytes()


def _build(deliver: DeliverSettings, context: DestinationContext) -> Iterator[MailDestination]:
    if deliver.email is not None:
        yield EmailDestination(deliver.email, context)
        yield OperatorsDestination(deliver.email, context)


KIND = DestinationKind(EmailSettings, _build)
