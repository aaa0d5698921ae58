"""A ledger and case folders as the pages of the portal meet them: one case of the real pipeline, and one in each other state."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from config.settings import Settings
from conversion.headers import read_instance
from corewatch.arrival import Arrival, ArrivalSource
from corewatch.reasons import Reason
from corewatch.states import CaseState, DeliveryState
from ledger.intake import IndexedFile
from ledger.store import Ledger
from tests.support.ledger import files

SCANNER = "Siemens SOMATOM Force"


@dataclass(frozen=True, slots=True)
class PortalCases:
    """Ids of the cases by what they are."""

    stroke: str
    negative: str
    acknowledged: str
    not_analysed: str
    failed: str
    receiving: str
    removed: str


def _arrival(ledger: Ledger, at: datetime) -> Arrival:
    arrival = Arrival(f"arrival-{at:%H%M%S%f}", ArrivalSource.C_STORE, at, "CT-2", "10.0.0.5")
    ledger.intake.register(arrival)
    return arrival


def opened(ledger: Ledger, series: str, at: datetime) -> str:
    """A case whose first images were received."""
    arrival = _arrival(ledger, at)
    rows = [
        replace(one, path=f"{arrival.arrival_id}/{one.path}", stored_at=at, header=replace(one.header, scanner=SCANNER))
        for one in files(series, range(3))
    ]
    [case_id] = ledger.intake.ingest(arrival, rows).opened
    return case_id


def real_case(settings: Settings, ledger: Ledger, series: Path, analysed: Path, at: datetime) -> str:
    """A case whose images lie in the spool and whose folder is that of `corewatch run`; its alert is open."""
    arrival = _arrival(ledger, at)
    folder = settings.received_dir / arrival.arrival_id
    shutil.copytree(series, folder)
    read = partial(read_instance, search_key=settings.search_key())
    rows = [
        IndexedFile(path.relative_to(settings.received_dir).as_posix(), f"{number:064x}", at, read(path))
        for number, path in enumerate(sorted(path for path in folder.rglob("*") if path.is_file()))
    ]
    [case_id] = ledger.intake.ingest(arrival, rows).opened
    shutil.copytree(analysed, settings.cases_dir / case_id)
    result = json.loads((analysed / "result.json").read_text())
    low, high = result["core_ml_interval"]
    facts = {name: result[name] for name in ("core_ml", "side", "alert", "unstable")}
    ended(ledger, case_id, {**facts, "core_ml_low": low, "core_ml_high": high})
    return case_id


def ended(ledger: Ledger, case_id: str, facts: dict[str, Any], *, sent: tuple[str, ...] = ("email", "orthanc")) -> None:
    """Analyse and deliver a case."""
    ledger.cases.advance(case_id, CaseState.RECEIVING, CaseState.QUEUED, case_key=f"key {case_id}")
    ledger.cases.advance(case_id, CaseState.QUEUED, CaseState.PREPARED)
    ledger.cases.advance(case_id, CaseState.PREPARED, CaseState.DETECTED, **facts)
    waits = [timedelta(minutes=10), timedelta(minutes=20)] if facts["alert"] else None
    plan = {"email": None, "orthanc": None, "folder": None}
    ledger.deliveries.plan(case_id, CaseState.DETECTED, CaseState.DELIVERING, plan, escalation=waits)
    for name in sent:
        ledger.deliveries.begin(case_id, name, lease_s=60)
        ledger.deliveries.end(case_id, name, DeliveryState.SENT, detail="")


def fill(settings: Settings, ledger: Ledger, series: Path, analysed: Path) -> PortalCases:
    """One case of each kind."""
    now = ledger.clock()
    stroke = real_case(settings, ledger, series, analysed, now - timedelta(seconds=75))
    every = ("email", "orthanc", "folder")

    negative = opened(ledger, "1.2.1", now - timedelta(minutes=31))
    ended(ledger, negative, _finding(4.2, 2.9, 6.8, "none"), sent=every)
    acknowledged = opened(ledger, "1.2.2", now - timedelta(minutes=52))
    ended(ledger, acknowledged, _finding(23.4, 17.0, 31.2, "right"), sent=every)
    ledger.alerts.acknowledge(acknowledged, "Ute Brandt (brandt)", "portal")

    not_analysed = opened(ledger, "1.2.3", now - timedelta(hours=2))
    reason = {"reason": Reason.MISSING_SLICES, "detail": "12 of 320 slices are missing."}
    ledger.cases.advance(not_analysed, CaseState.RECEIVING, CaseState.NOT_ANALYSED, case_key="missing", **reason)

    failed = opened(ledger, "1.2.4", now - timedelta(hours=3))
    ended(ledger, failed, _finding(8.0, 6.0, 11.0, "left"), sent=("email", "folder"))
    ledger.deliveries.begin(failed, "orthanc", lease_s=60)
    refusal = "orthanc refused the association: called AE title not recognized"
    ledger.deliveries.end(failed, "orthanc", DeliveryState.REFUSED, detail=refusal)

    removed = opened(ledger, "1.2.5", now - timedelta(days=12))
    ended(ledger, removed, _finding(2.0, 1.1, 3.9, "none"), sent=every)
    ledger.cases.mark_files_removed(removed)
    receiving = opened(ledger, "1.2.6", now - timedelta(seconds=3))
    return PortalCases(stroke, negative, acknowledged, not_analysed, failed, receiving, removed)


def _finding(core_ml: float, low: float, high: float, side: str) -> dict[str, Any]:
    crosses = low < 20 <= high
    return {
        "core_ml": core_ml, "core_ml_low": low, "core_ml_high": high, "side": side, "alert": core_ml >= 20, "unstable": crosses
    }  # fmt: skip
