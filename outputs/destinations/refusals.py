"""Notices that one destination did not take a result, sent at once, while other destinations may still be tried.

The ledger plans one for each refusal (`corewatch.destinations.refusal_notice`); its name holds the destination that it is about.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from config.delivery import DeliverSettings, EmailSettings, WebhookSettings
from corewatch.destinations import MAIL_REFUSAL, WEBHOOK_REFUSAL, alerts_people, refusal_notice
from corewatch.mail_receipts import MailKind
from corewatch.states import DeliveryState
from outputs.case import DeliveryStatus, ReportedCase
from outputs.destinations.base import DestinationContext, DestinationKind
from outputs.destinations.email import MailDestination, RecipientList, each_recipient_once
from outputs.destinations.webhook import WebhookDestination, payload
from outputs.mail.case_mail import refusal_key
from outputs.mail.digest_mail import DigestLine
from outputs.mail.refusal_words import MailWords, refusal_words

_STARTED_AGAIN: Final = "that delivery was started again meanwhile"


def refusal_of(case: ReportedCase, destination: str) -> DeliveryStatus | None:
    """The refused delivery to this destination; None where it is not refused, or no longer."""
    found = (one for one in case.deliveries if one.destination == destination and one.state is DeliveryState.REFUSED)
    return next(found, None)


class RefusalMail(MailDestination):
    """Mail to the operators about one refusal.

    Parameters
    ----------
    about
        Name of the destination that refused; empty for the object that makes the others.
    """

    def __init__(self, settings: EmailSettings, context: DestinationContext, about: str = "") -> None:
        super().__init__(settings, context)
        self._about = about
        self.name = refusal_notice(MAIL_REFUSAL, about) if about else MAIL_REFUSAL
        self.carries_alerts = alerts_people(about)

    def about(self, destination: str) -> RefusalMail:
        """The mail about this destination."""
        return RefusalMail(self._settings, self._context, destination)

    def skip_reason(self, case: ReportedCase) -> str | None:
        """Skip a delivery that an operator has started again."""
        if refusal_of(case, self._about) is None:
            return _STARTED_AGAIN
        return None if self.recipient_lists(case) else "no recipients (deliver.email.operators, .to and .lists are empty)"

    def recipient_lists(self, case: ReportedCase) -> tuple[RecipientList, ...]:
        """The operators."""
        return each_recipient_once((RecipientList("operators", self._settings.operator_addresses),))

    def kind(self, case: ReportedCase) -> MailKind:
        """An alert where an alert has not reached people, else a notice."""
        words = self.words(case)
        return MailKind.ALERT if words is not None and words.alarm else MailKind.NOTICE

    def key(self, case: ReportedCase) -> str:
        """The same for a repeat; another one after an operator has started the delivery again."""
        refused = refusal_of(case, self._about)
        return refusal_key(case, self.name, None if refused is None else refused.refused_at)

    def words(self, case: ReportedCase) -> MailWords | None:
        """What did not take the result, why, and who has it."""
        refused = refusal_of(case, self._about)
        return None if refused is None else refusal_words(case, refused)

    def line(self, case: ReportedCase) -> DigestLine:
        """What did not take the result, and why."""
        words = self.words(case)
        return super().line(case) if words is None else DigestLine(1, f"{words.headline}: {words.problem}", without_result=False)


class RefusalWebhook(WebhookDestination):
    """POSTs one refusal; see `RefusalMail`."""

    def __init__(self, settings: WebhookSettings, context: DestinationContext, about: str = "") -> None:
        super().__init__(settings, context.clock)
        self._context, self._about = context, about
        self.name = refusal_notice(WEBHOOK_REFUSAL, about) if about else WEBHOOK_REFUSAL

    def about(self, destination: str) -> RefusalWebhook:
        """The request about this destination."""
        return RefusalWebhook(self._settings, self._context, destination)

    def skip_reason(self, case: ReportedCase) -> str | None:
        """Skip a delivery that an operator has started again."""
        return _STARTED_AGAIN if refusal_of(case, self._about) is None else None

    def key(self, case: ReportedCase) -> str:
        """The same for a repeat; another one after an operator has started the delivery again."""
        refused = refusal_of(case, self._about)
        return refusal_key(case, self.name, None if refused is None else refused.refused_at)

    def payload(self, case: ReportedCase) -> dict[str, Any]:
        """The finding, and the name of the destination that did not take it."""
        content = payload(case)
        data: dict[str, Any] = content["data"]
        return content | {"type": "case.delivery_refused", "data": data | {"refused_by": self._about}}


def _build(deliver: DeliverSettings, context: DestinationContext) -> Iterator[RefusalMail | RefusalWebhook]:
    if deliver.email is not None:
        yield RefusalMail(deliver.email, context)
    if deliver.webhook is not None and deliver.webhook.not_analysed:
        yield RefusalWebhook(deliver.webhook, context)


KIND = DestinationKind(EmailSettings, _build)
