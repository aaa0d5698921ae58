"""Mail to the next list when nobody has acknowledged a positive alert."""

from __future__ import annotations

from collections.abc import Iterator

from config.delivery import DeliverSettings, EmailSettings, EscalationLevel
from corewatch.destinations import alerts_people, escalation
from corewatch.mail_receipts import MailKind
from corewatch.states import DeliveryState
from outputs.case import ReportedCase
from outputs.destinations.base import Delivered, DestinationContext, DestinationKind
from outputs.destinations.email import MailDestination, RecipientList, each_recipient_once
from outputs.mail.refusal_words import shown_name


class EscalationDestination(MailDestination):
    """One level of escalation. The ledger starts it when its time has come (`ledger.alerts`).

    Parameters
    ----------
    level
        Counted from 1.
    to
        The recipients of this level.
    """

    throttled = False
    lead = "NOT ACKNOWLEDGED: "

    def __init__(self, level: int, to: tuple[str, ...], settings: EmailSettings, context: DestinationContext) -> None:
        super().__init__(settings, context)
        self.name = escalation(level)
        self._to = to

    def skip_reason(self, case: ReportedCase) -> str | None:
        """Skip an alert that was acknowledged meanwhile, and a case that is not, or no longer, an alert."""
        if case.acknowledged:
            return "the alert was acknowledged"
        finding = case.result.finding
        return None if finding is not None and finding.alert else "no alert"

    def deliver(self, case: ReportedCase) -> Delivered:
        """Send the alert, also where the case has failed since, because another destination refused the result."""
        return super().deliver(case.as_alert)

    def note(self, case: ReportedCase) -> str:
        """That nobody has acknowledged the alert, or that those before could not be mailed at all."""
        refused = [one for one in case.deliveries if one.state is DeliveryState.REFUSED and alerts_people(one.destination)]
        if refused:
            return f"This alert could not be mailed to those before you ({', '.join(shown_name(r.destination) for r in refused)})."
        return "Nobody who was alerted before has acknowledged this alert."

    def recipient_lists(self, case: ReportedCase) -> tuple[RecipientList, ...]:
        """The level's list."""
        return each_recipient_once([RecipientList(self.name, self._to)])

    def kind(self, case: ReportedCase) -> MailKind:
        """An escalation."""
        return MailKind.ESCALATION


def _build(deliver: DeliverSettings, context: DestinationContext) -> Iterator[EscalationDestination]:
    if deliver.email is not None:
        for level, section in enumerate(deliver.escalation, start=1):
            yield EscalationDestination(level, section.to, deliver.email, context)


KIND = DestinationKind(EscalationLevel, _build)
