"""Mail to the next list when nobody has acknowledged a positive alert."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from corewatch.destinations import escalation
from corewatch.letters import LetterKind
from corewatch.states import CaseState
from outputs.case import ReportedCase
from outputs.destinations.base import Delivered
from outputs.destinations.email import EmailParameters, MailDestination, MailList, disjoint
from outputs.destinations.receipts import Receipts


class EscalationDestination(MailDestination):
    """One level. The ledger starts it when its time has come (`ledger.alerts`)."""

    paced = False
    lead = "NOT ACKNOWLEDGED: "
    note = "Nobody of those who were told before has acknowledged this alert."

    def __init__(
        self, level: int, to: tuple[str, ...], parameters: EmailParameters, clock: Callable[[], datetime], receipts: Receipts | None
    ) -> None:
        super().__init__(parameters, clock, receipts)
        self.name = escalation(level)
        self._to = to

    def skip_reason(self, case: ReportedCase) -> str | None:
        """Skip what was acknowledged meanwhile, and what is no alert (any more)."""
        if case.acknowledged:
            return "the alert was acknowledged"
        finding = case.result.finding
        return None if finding is not None and finding.alert else "no alert"

    def deliver(self, case: ReportedCase) -> Delivered:
        """Send the alert. That another destination refused the result, and the case has failed thereby, takes nothing from it."""
        return super().deliver(replace(case, result=replace(case.result, state=CaseState.DELIVERING)))

    def lists(self, case: ReportedCase) -> tuple[MailList, ...]:
        """The level's list."""
        return disjoint([MailList(self.name, self._to)])

    def kind(self, case: ReportedCase) -> LetterKind:
        """An escalation."""
        return LetterKind.ESCALATION
