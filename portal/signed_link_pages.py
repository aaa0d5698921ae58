"""HTML pages behind the signed links of mails, from templates."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime

from jinja2 import Environment, PackageLoader, StrictUndefined

from corewatch import RESEARCH_LABEL
from corewatch.findings import Side
from corewatch.reasons import Reason
from corewatch.states import CaseState
from ledger.alerts import Alert
from ledger.cases import Case
from outputs.wording import moment, number_ml, side_words

_WORDS = {
    CaseState.NOT_ANALYSED: "Not analysed",
    CaseState.FAILED: "Failed",
    CaseState.SUPERSEDED: "Replaced by a later revision",
}


class Pages:
    """Renders pages from escaped templates; the style is inline, and `style_hash` allows it in the content security policy.

    Parameters
    ----------
    alert_ml
        Threshold of the alert: a volume is never rounded across it.
    """

    def __init__(self, alert_ml: float) -> None:
        self._alert_ml = alert_ml
        self._templates = Environment(
            loader=PackageLoader("portal"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        self._style = self._templates.get_template("signed_link/style.css").render()
        self.style_hash = "sha256-" + base64.b64encode(hashlib.sha256(self._style.encode()).digest()).decode()

    def case(self, case: Case, alert: Alert | None, now: datetime, problem: str = "") -> str:
        """Page of one case: its finding, and the form while its alert is not acknowledged. Without patient data."""
        acknowledged = None
        if alert is not None and alert.acknowledged_at is not None:
            acknowledged = (alert.acknowledged_by or "", moment(alert.acknowledged_at.astimezone()))
        superseded = case.state is CaseState.SUPERSEDED
        facts = [
            ("Case", case.case_id if case.revision == 1 else f"{case.case_id}, revision {case.revision}"),
            ("Last image", f"{moment(case.last_stored_at.astimezone())} ({_ago(now - case.last_stored_at)})"),
        ]
        if case.superseded_by is not None:
            facts.append(("Replaced by", f"case {case.superseded_by}"))
        if case.side is not None:
            facts.insert(0, ("Side", side_words(Side(case.side))))
        return self._render(
            "signed_link/case.html",
            title=f"Case {case.case_id}",
            alert=alert is not None and not superseded,
            verdict=_verdict(case, alert is not None),
            volume=None if case.core_ml is None else f"{number_ml(case.core_ml, self._alert_ml)} mL",
            reason=_reason(case.reason),
            facts=facts,
            acknowledged=acknowledged,
            form=alert is not None and acknowledged is None and not superseded,
            problem=problem,
        )

    def message(self, text: str) -> str:
        """Page with one sentence."""
        return self._render("signed_link/message.html", title="corewatch", text=text)

    def _render(self, template: str, **values: object) -> str:
        return self._templates.get_template(template).render(style=self._style, label=RESEARCH_LABEL, **values)


def _verdict(case: Case, alert: bool) -> str:
    if case.state in _WORDS and not (alert and case.state is CaseState.FAILED):
        return _WORDS[case.state]  # an alert remains, even if a destination refused the result
    if case.core_ml is None:
        return "Being analysed"
    return "ALERT: ischemic core" if alert or case.alert else "No alert"


def _reason(reason: Reason | None) -> str:
    return "" if reason is None else reason.sentence


def _ago(passed: object) -> str:
    minutes = int(getattr(passed, "total_seconds", lambda: 0.0)() // 60)
    if minutes < 120:
        return f"{max(minutes, 0)} min ago"
    return f"{minutes // 60} h ago"
