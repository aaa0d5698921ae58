"""What the worklist shows: rows of the ledger in words and numbers for people, and the filters of its address. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from corewatch.findings import DEMONSTRATION_MODELS, Side
from corewatch.states import CaseState, DeliveryState
from ledger.cases import Case
from ledger.worklist import WorklistFilter, WorklistRow
from outputs.wording import number_ml, side_words

STATE_WORDS: Final = {
    CaseState.RECEIVING: "Receiving images",
    CaseState.QUEUED: "Waiting for preparation",
    CaseState.PREPARED: "Being analysed",
    CaseState.DETECTED: "Drawing pages",
    CaseState.DELIVERING: "Being delivered",
    CaseState.DELIVERED: "Delivered",
    CaseState.NOT_ANALYSED: "Not analysed",
    CaseState.FAILED: "Failed",
    CaseState.SUPERSEDED: "Replaced by a later revision",
}

DELIVERY_WORDS: Final = {
    DeliveryState.PENDING: "waiting",
    DeliveryState.SENDING: "sending",
    DeliveryState.AWAITING: "stored, commitment pending",
    DeliveryState.SENT: "sent",
    DeliveryState.REFUSED: "refused",
    DeliveryState.SKIPPED: "skipped",
}

_CAUTIONS: Final = {
    "dense_region": "dense region: haemorrhage?",
    "hu_level": "unusual HU level",
    "hu_corrected": "HU level corrected",
}
"""Words of cautions whose code is not words enough."""

PRESETS: Final = (
    ("", "All"),
    ("open", "Open alerts"),
    ("today", "Today"),
    ("not_analysed", "Not analysed"),
    ("failed", "Failed"),
    ("mine", "Mine"),
)
"""Value of `show` in the address, and the words of the link."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The finding of a case in a few words.

    Attributes
    ----------
    kind
        alert, negative, working, not_analysed, failed or superseded: for colour and symbol, never the only sign.
    """

    kind: str
    words: str


def verdict_of(case: Case, *, has_alert: bool) -> Verdict:
    """The verdict. An alert stays one although a destination refused the result."""
    if case.state is CaseState.SUPERSEDED:
        return Verdict("superseded", STATE_WORDS[case.state])
    if has_alert or (case.alert and case.core_ml is not None):
        return Verdict("alert", "ALERT")
    if case.state is CaseState.NOT_ANALYSED:
        return Verdict("not_analysed", "Not analysed")
    if case.state is CaseState.FAILED:
        return Verdict("failed", "Failed")
    if case.core_ml is not None:
        return Verdict("negative", "No alert")
    return Verdict("working", STATE_WORDS[case.state])


def volume_words(case: Case, alert_ml: float) -> str:
    """Volume with its unit; empty where there is none."""
    return "" if case.core_ml is None else f"{number_ml(case.core_ml, alert_ml)} mL"


def range_words(case: Case, alert_ml: float) -> str:
    """Placement range with its unit; empty where it was switched off, or the case is of an earlier version."""
    if case.core_ml_low is None or case.core_ml_high is None:
        return ""
    return f"{number_ml(case.core_ml_low, alert_ml)} to {number_ml(case.core_ml_high, alert_ml)} mL"


def duration_words(length: timedelta) -> str:
    """A length of time in its two largest units.

    >>> duration_words(timedelta(seconds=42)), duration_words(timedelta(minutes=3, seconds=5)), duration_words(timedelta(hours=49))
    ('42 s', '3 min 5 s', '2 d 1 h')
    """
    seconds = max(0, int(length.total_seconds()))
    for size, unit, below, less in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            rest = seconds % size // below
            return f"{seconds // size} {unit}" + (f" {rest} {less}" if rest else "")
    return f"{seconds} s"


def clock_words(at: datetime, now: datetime) -> str:
    """Time of day in local time; with the date where that is another day."""
    local, today = at.astimezone(), now.astimezone()
    return f"{local:%H:%M}" if local.date() == today.date() else f"{local:%Y-%m-%d %H:%M}"


@dataclass(frozen=True, slots=True)
class RowView:
    """One row for the template; texts are empty where nothing is known."""

    case_id: str
    revision: int
    verdict: Verdict
    is_open: bool
    volume: str
    range: str
    side: str
    unstable: bool
    demonstration: bool
    cautions: tuple[str, ...]
    reason: str
    patient: Mapping[str, str]
    scanner: str
    senders: str
    last_image: str
    last_image_iso: str
    age: str
    alerted: str
    in_time: bool | None
    overdue: bool
    waiting: str
    waiting_iso: str
    acknowledged: str
    escalation: str
    state: str
    destinations: tuple[tuple[str, str, str], ...]


def row_view(row: WorklistRow, patient: Mapping[str, str], *, now: datetime, alert_ml: float, sla_s: float, model: str) -> RowView:
    """One row in words; `model` analyses cases that name none."""
    case, alert = row.case, row.alert
    took = row.alerted_after
    acknowledged = ""
    if alert is not None and alert.acknowledged_at is not None:
        acknowledged = f"{alert.acknowledged_by or 'somebody'}, {clock_words(alert.acknowledged_at, now)}"
    escalation = ""
    if row.has_open_alert and row.next_escalation is not None:
        escalation = f"Level {row.next_escalation.level} at {clock_words(row.next_escalation.due_at, now)}"
    return RowView(
        case_id=case.case_id,
        revision=case.revision,
        verdict=verdict_of(case, has_alert=alert is not None),
        is_open=row.has_open_alert,
        volume=volume_words(case, alert_ml),
        range=range_words(case, alert_ml),
        side=side_words(Side(case.side)) if case.side is not None and case.core_ml is not None else "",
        unstable=bool(case.unstable),
        demonstration=case.core_ml is not None and (case.model or model) in DEMONSTRATION_MODELS,
        cautions=caution_words(case),
        reason="" if case.reason is None else case.reason.sentence,
        patient=patient,
        scanner=case.scanner or "",
        senders=", ".join(row.senders),
        last_image=clock_words(case.last_stored_at, now),
        last_image_iso=case.last_stored_at.isoformat(),
        age=duration_words(now - case.last_stored_at),
        alerted="" if took is None else f"{took.total_seconds():.0f} s",
        in_time=None if took is None else took.total_seconds() <= sla_s,
        overdue=took is None and row.has_open_alert and (now - case.last_stored_at).total_seconds() > sla_s,
        waiting=duration_words(now - alert.raised_at) if alert is not None and row.has_open_alert else "",
        waiting_iso=alert.raised_at.isoformat() if alert is not None and row.has_open_alert else "",
        acknowledged=acknowledged,
        escalation=escalation,
        state=STATE_WORDS[case.state],
        destinations=tuple((one.destination, str(one.state), DELIVERY_WORDS[one.state]) for one in row.deliveries),
    )


def caution_words(case: Case) -> tuple[str, ...]:
    """Cautions of a result by their codes, in a few words each."""
    codes: Sequence[str] = case.cautions or ()
    return tuple(_CAUTIONS.get(code, code.replace("_", " ")) for code in codes)


@dataclass(frozen=True, slots=True)
class WorklistAddress:
    """The filters of the worklist's address.

    Attributes
    ----------
    show
        One of `PRESETS`.
    state
        Only this state.
    found
        Keyed hash of the identifier that was searched for.
    """

    show: str = ""
    state: str = ""
    scanner: str = ""
    day: str = ""
    found: str = ""

    @classmethod
    def parse(cls, parameters: Mapping[str, str]) -> WorklistAddress:
        """From the query; values that mean nothing are left out."""
        show, state, day = (parameters.get(name, "") for name in ("show", "state", "day"))
        found = parameters.get("found", "")
        return cls(
            show=show if show in dict(PRESETS) else "",
            state=state if state in CaseState.__members__.values() else "",
            scanner=parameters.get("scanner", "")[:160],
            day=day if _is_day(day) else "",
            found=found if len(found) == 64 and all(letter in "0123456789abcdef" for letter in found) else "",
        )

    def query(self, **more: str) -> str:
        """As the query of an address, with `?`; empty where nothing is filtered."""
        values = {name: getattr(self, name) for name in ("show", "state", "scanner", "day", "found")} | more
        text = urlencode({name: value for name, value in values.items() if value})
        return f"?{text}" if text else ""

    def filter(self, now: datetime, person: str) -> WorklistFilter:
        """The filter of the ledger; days are those of this machine's zone."""
        midnight = now.astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
        since: datetime | None = midnight if self.show == "today" else None
        until: datetime | None = None
        if self.day:
            since = datetime.fromisoformat(self.day).astimezone()
            until = since + timedelta(days=1)
        preset = {"not_analysed": CaseState.NOT_ANALYSED, "failed": CaseState.FAILED}.get(self.show)
        chosen = CaseState(self.state) if self.state else preset
        return WorklistFilter(
            open_alerts=self.show == "open",
            states=() if chosen is None else (chosen,),
            since=since,
            until=until,
            scanner=self.scanner or None,
            acknowledged_by=person if self.show == "mine" else None,
            identifier_hash=self.found or None,
        )


def _is_day(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d") == text
    except ValueError:
        return False
