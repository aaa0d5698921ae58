"""Cases as tables for people and as JSON for programs. Without patient data; the details hold the series UID."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from cli.console import PlainConsole
from corewatch import RESEARCH_LABEL
from corewatch.errors import NotAnalysed
from corewatch.states import CaseState, DeliveryState
from ledger.audit_trail import AuditLine
from ledger.cases import Case
from ledger.deliveries import Delivery

_STYLES = {
    CaseState.DELIVERED: "green",
    CaseState.NOT_ANALYSED: "yellow",
    CaseState.FAILED: "bold red",
    CaseState.SUPERSEDED: "dim",
    DeliveryState.AWAITING: "cyan",
    DeliveryState.SENT: "green",
    DeliveryState.REFUSED: "bold red",
    DeliveryState.SKIPPED: "dim",
}


def age(elapsed: timedelta) -> str:
    """Age in the largest unit that fits: `12 s`, `3 min`, `5 h`, `9 d`."""
    seconds = max(0, int(elapsed.total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def ending_reason(case: Case) -> str:
    """Sentence that says why the case ended without a result; empty where it did not."""
    if case.reason is not None:
        return str(NotAnalysed(case.reason, case.detail))
    if case.superseded_by is not None:
        return f"A later revision took its place: {case.superseded_by}."
    if case.state is CaseState.FAILED and case.failed_stage is not None:
        return f"{case.failed_stage}: {case.detail}"
    return case.detail


def notes_of(folder: Path) -> list[str]:
    """Notes on the series from the case's `result.json`; empty where there is none."""
    try:
        notes = json.loads((folder / "result.json").read_bytes()).get("notes", [])
    except (OSError, ValueError, AttributeError):
        return []
    return [str(note) for note in notes] if isinstance(notes, list) else []


def summary_of(case: Case) -> dict[str, Any]:
    """The case as JSON, as in a list."""
    return {
        "case_id": case.case_id,
        "state": str(case.state),
        "reason": None if case.reason is None else str(case.reason),
        "reason_text": ending_reason(case) or None,
        "remedy": None if case.reason is None else case.reason.remedy,
        "created_at": case.created_at.isoformat(),
        "updated_at": case.updated_at.isoformat(),
        "side": case.side,
        "core_ml": case.core_ml,
        "alert": case.alert,
        "revision": case.revision,
        "attempts": case.attempts,
    }


def details_of(case: Case, deliveries: Sequence[Delivery], history: Sequence[AuditLine], folder: Path) -> dict[str, Any]:
    """The case as JSON, with everything."""
    return summary_of(case) | {
        "series_uid": case.series_uid,
        "model": case.model,
        "failed_stage": None if case.failed_stage is None else str(case.failed_stage),
        "superseded_by": case.superseded_by,
        "last_stored_at": case.last_stored_at.isoformat(),
        "notes": notes_of(folder),
        "folder": None if case.files_removed else str(folder),
        "deliveries": [
            {
                "destination": d.destination,
                "state": str(d.state),
                "attempts": d.attempts,
                "detail": d.detail,
                "sent_at": None if d.sent_at is None else d.sent_at.isoformat(),
                "next_attempt_at": None if d.next_attempt_at is None else d.next_attempt_at.isoformat(),
            }
            for d in deliveries
        ],
        "history": [{"at": line.at.isoformat(), "event": line.event, "detail": line.detail} for line in history],
        "notice": RESEARCH_LABEL,
    }


def print_json(value: object) -> None:
    """Print one JSON value."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def print_list(found: Sequence[Case], now: datetime, limit: int) -> None:
    """Print a table, one line per case."""
    console = PlainConsole()
    if not found:
        console.print("There are no such cases.")
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", expand=True)
    for name, right in (("Case", False), ("State", False), ("Age", True), ("Side", False), ("Core mL", True), ("Alert", False)):
        table.add_column(name, no_wrap=True, justify="right" if right else "left")
    table.add_column("Reason", no_wrap=True, overflow="ellipsis", ratio=1)
    for case in found:
        table.add_row(
            case.case_id,
            _styled(case.state),
            age(now - case.created_at),
            case.side or "",
            "" if case.core_ml is None else f"{case.core_ml:.1f}",
            Text("ALERT", style="bold red") if case.alert else "",
            ending_reason(case),
        )
    console.print(table)
    if len(found) == limit:
        console.print(f"The newest {limit}; --limit shows more.", style="dim")
    console.print(RESEARCH_LABEL, style="yellow")


def print_details(case: Case, deliveries: Sequence[Delivery], history: Sequence[AuditLine], folder: Path) -> None:
    """Print everything about one case."""
    facts = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("Case", f"{case.case_id}, revision {case.revision}")
    facts.add_row("State", _styled(case.state))
    if ending_reason(case):
        facts.add_row("Reason", ending_reason(case))
    if case.reason is not None:
        facts.add_row("What to do", case.reason.remedy)
    for note in notes_of(folder):
        facts.add_row("Note", note)
    if case.core_ml is not None:
        alert = Text(", ALERT", style="bold red") if case.alert else Text("")
        facts.add_row("Core", Text.assemble(f"{case.core_ml:.1f} mL, side {case.side}", alert))
    if case.model:
        facts.add_row("Model", case.model)
    facts.add_row("Series", case.series_uid or "already aligned head")
    facts.add_row("Last image", _time(case.last_stored_at))
    facts.add_row("Files", "removed by retention" if case.files_removed else str(folder))
    parts: list[Any] = [facts]
    if deliveries:
        table = Table(title="Deliveries", title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="bold")
        for name in ("Destination", "State", "Attempts", "At", "Detail"):
            table.add_column(name, no_wrap=name != "Detail", overflow="fold")
        for d in deliveries:
            at = d.sent_at or d.next_attempt_at
            table.add_row(d.destination, _styled(d.state), str(d.attempts), "" if at is None else _time(at), d.detail)
        parts += ["", table]
    events = Table(title="History", title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("Time (UTC)", "Event", "Detail"):
        events.add_column(name, no_wrap=name != "Detail", overflow="fold")
    for line in history:
        events.add_row(_time(line.at), line.event, "; ".join(f"{k}: {v}" for k, v in line.detail.items()))
    PlainConsole().print(Group(*parts, "", events, Text(RESEARCH_LABEL, style="yellow")))


def _styled(state: CaseState | DeliveryState) -> Text:
    return Text(str(state), style=_STYLES.get(state, ""))


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"
