"""Cases in the states that the tests of the ledger start from."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from corewatch.arrival import Arrival, ArrivalSource
from corewatch.instance import Instance
from corewatch.messages import Work
from corewatch.states import CaseState, Stage
from ledger.intake import IndexedFile
from ledger.store import Ledger

T0 = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
ARRIVAL = Arrival("20261121-a", ArrivalSource.C_STORE, T0, "PACS", "10.0.0.5")


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def files(series: str, numbers: range, *, arrival: str = ARRIVAL.arrival_id, content: str = "x") -> list[IndexedFile]:
    return [
        IndexedFile(
            path=f"{arrival}/{series}-{k}-{content}.dcm",
            sha256=hashlib.sha256(f"{content}{k}".encode()).hexdigest(),
            stored_at=T0 + timedelta(milliseconds=k),
            header=Instance(f"{series}.{k}", CTImageStorage, ExplicitVRLittleEndian, series, "9", position_lps=(0.0, 0.0, k * 1.0)),
        )
        for k in numbers
    ]  # fmt: skip


def write_received(received_dir: Path, series: str = "1.2", count: int = 3) -> None:
    """The files of `received` on the disk."""
    for number, file in enumerate(files(series, range(count))):
        path = received_dir / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"x{number}".encode())


def received(ledger: Ledger, series: str = "1.2", count: int = 3) -> str:
    ledger.intake.register(ARRIVAL)
    [case_id] = ledger.intake.ingest(ARRIVAL, files(series, range(count))).opened
    return case_id


def queued(ledger: Ledger, series: str = "1.2") -> str:
    case_id = received(ledger, series)
    assert ledger.cases.advance(
        case_id, CaseState.RECEIVING, CaseState.QUEUED, work=[Work(Stage.PREPARE, case_id)], case_key=f"key of {series}"
    )
    return case_id


def delivering(ledger: Ledger, series: str = "1.2", **destinations: str | None) -> str:
    case_id = queued(ledger, series)
    ledger.cases.advance(case_id, CaseState.QUEUED, CaseState.PREPARED)
    ledger.cases.advance(case_id, CaseState.PREPARED, CaseState.DETECTED, core_ml=12.5, side="left", alert=False)
    assert ledger.deliveries.plan(case_id, CaseState.DETECTED, CaseState.DELIVERING, destinations)
    return case_id
