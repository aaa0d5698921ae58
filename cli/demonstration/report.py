"""Report of the demonstration: found and true core, files, and what is missing."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from corewatch import RESEARCH_LABEL
from corewatch.casefolder import CaseFolder
from corewatch.states import CaseState, DeliveryState
from ledger.cases import Case
from ledger.deliveries import Delivery


@dataclass(frozen=True, slots=True)
class Truth:
    """True core of the synthetic head."""

    core_ml: float
    side: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of the demonstration.

    Attributes
    ----------
    problems
        What is missing; empty where every destination has everything.
    last_image_to_mail_s
        Seconds from the last stored image until the mail server accepted the mail.
    """

    case_id: str
    state: str
    core_ml: float | None
    core_ml_interval: list[float] | None
    side: str | None
    alert: bool | None
    truth: Truth
    aligned: str
    core_map: str
    summary: str
    result: str
    pacs_objects: list[str]
    mails: list[str]
    folder: str
    last_image_to_mail_s: float | None
    problems: list[str]
    notice: str = RESEARCH_LABEL


def outcome_of(
    case: Case, deliveries: list[Delivery], truth: Truth, folder: Path, pacs_objects: list[Path], mails: list[Path]
) -> Outcome:
    """Compare what the stand-ins received with what the case sent.

    Parameters
    ----------
    folder
        The demonstration's folder, which holds `results/`.
    """
    results = CaseFolder(folder / "results" / case.case_id)
    found: dict[str, Any] = json.loads(results.result.read_text()) if results.result.is_file() else {}
    mailed = next((d.sent_at for d in deliveries if d.destination == "email" and d.sent_at is not None), None)
    return Outcome(
        case_id=case.case_id,
        state=str(case.state),
        core_ml=case.core_ml,
        core_ml_interval=found.get("core_ml_interval"),
        side=case.side,
        alert=case.alert,
        truth=truth,
        aligned=str(results.aligned),
        core_map=str(results.core_map),
        summary=str(results.summary),
        result=str(results.result),
        pacs_objects=[str(path) for path in pacs_objects],
        mails=[str(path) for path in mails],
        folder=str(folder),
        last_image_to_mail_s=None if mailed is None else round((mailed - case.last_stored_at).total_seconds(), 1),
        problems=problems_of(case, deliveries, results, pacs_objects, mails),
    )


def problems_of(
    case: Case, deliveries: list[Delivery], results: CaseFolder, pacs_objects: list[Path], mails: list[Path]
) -> list[str]:
    """What is missing of a delivery to PACS, folder and mail; empty where nothing is."""
    problems = []
    if case.state is not CaseState.DELIVERED:
        problems.append(f"the case ended as {case.state}" + (f": {case.detail}" if case.detail else ""))
    states = {d.destination: d for d in deliveries}
    for name in ("pacs", "folder", "email"):
        delivery = states.get(name)
        if delivery is None or delivery.state is not DeliveryState.SENT:
            detail = "" if delivery is None or not delivery.detail else f" ({delivery.detail})"
            problems.append(f"{name}: {'not planned' if delivery is None else delivery.state}{detail}")
    missing = [f.name for f in (results.aligned, results.core_map, results.summary, results.result) if not f.is_file()]
    if missing:
        problems.append(f"the results folder lacks {', '.join(missing)}")
    made = {path.name for path in results.dicom.glob("*.dcm")} if results.dicom.is_dir() else set()
    if not pacs_objects or len(pacs_objects) != len(made):
        problems.append(f"the PACS stand-in has {len(pacs_objects)} objects, the case made {len(made)}")
    if not mails:
        problems.append("no mail arrived")
    return problems


def print_outcome(outcome: Outcome, console: Console) -> None:
    """Print the outcome as a table."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    if outcome.core_ml is not None:
        interval = outcome.core_ml_interval
        spread = "" if interval is None else f" (placement range {interval[0]:.0f} to {interval[1]:.0f} mL)"
        table.add_row("Found", f"{outcome.core_ml:.1f} mL{spread}, side {outcome.side}, {'ALERT' if outcome.alert else 'no alert'}")
    table.add_row("True", f"{outcome.truth.core_ml:.1f} mL, side {outcome.truth.side} (as the synthetic head was made)")
    if outcome.last_image_to_mail_s is not None:
        table.add_row("Last image to e-mail", f"{outcome.last_image_to_mail_s:.1f} s")
    base = Path(outcome.folder)
    table.add_row("Everything is in", outcome.folder)
    for name, path in (
        ("Summary page", outcome.summary),
        ("Aligned head", outcome.aligned),
        ("Core map", outcome.core_map),
        ("Result (JSON)", outcome.result),
    ):
        if Path(path).is_file():
            table.add_row(name, _relative(path, base))
    for kind, count in Counter(_kind(Path(path)) for path in outcome.pacs_objects).items():
        table.add_row("In the PACS", f"pacs/: {count} x {kind}")
    for path in outcome.mails:
        table.add_row("E-mail", _relative(path, base))
    console.print()
    console.print(table, highlight=False)
    console.print(RESEARCH_LABEL, style="yellow")


def outcome_json(outcome: Outcome) -> str:
    """The outcome as JSON."""
    return json.dumps(asdict(outcome) | {"at": datetime.now(UTC).isoformat(timespec="seconds")}, indent=2)


def _relative(path: str, base: Path) -> str:
    return str(Path(path).relative_to(base))


def _kind(path: Path) -> str:
    """SOP class and series of an object, for people."""
    from pydicom import dcmread

    dataset = dcmread(path, stop_before_pixels=True)
    return f'{dataset.SOPClassUID.name}, series "{dataset.get("SeriesDescription", "")}"'
