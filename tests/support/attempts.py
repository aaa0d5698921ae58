"""Attempts at stages and deliveries without a broker: a real ledger, scripted stages and destinations."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config import Settings
from config.delivery import DeliverSettings
from config.settings import WorkSettings
from corewatch.arrival import Arrival, ArrivalSource
from corewatch.findings import Finding, ModelIdentity, Side
from corewatch.instance import Instance
from corewatch.messages import Work
from corewatch.states import PIPELINE, CaseState, Stage
from ledger.cases import Case
from ledger.intake import IndexedFile
from ledger.store import Ledger
from outputs.case import ReportedCase
from outputs.destinations import Delivered
from tests.support.ledger import T0, Clock
from worker.context import WorkerContext
from worker.models.detectors import Detectors
from worker.stages.attempts import Facts, run_stage
from worker.stages.case_files import FindingRecord, PreparedRecord
from worker.tasks import advance

PREPARE = PIPELINE[0]


@dataclass
class ScriptedDestination:
    """A destination that does what its script says, one entry per attempt."""

    name: str
    script: list[BaseException | str]
    applies_not: str | None = None
    taken: list[ReportedCase] = field(default_factory=list)
    server: str | None = None
    must_not_wait: bool = False

    def skip_reason(self, _case: ReportedCase) -> str | None:
        return self.applies_not

    def deliver(self, case: ReportedCase) -> Delivered:
        step = self.script.pop(0) if self.script else "taken again"
        if isinstance(step, BaseException):
            raise step
        self.taken.append(case)
        return Delivered(step, T0)

    def check(self) -> None:
        return


@contextmanager
def worker_context(data_dir: Path, clock: Clock, **deliver: Any) -> Iterator[WorkerContext]:
    """A worker with three attempts, operators by mail and no results folder; `deliver` changes these settings."""
    settings = Settings(
        data_dir=data_dir,
        work=WorkSettings(attempts=3),
        deliver=DeliverSettings.model_validate(
            {
                "folder": None,
                "email": {"host": "mail", "from": "a@b.example", "operators": ["ops@b.example"]},
                "attempts": 3,
                "backoff_s": 10,
                **deliver,
            }
        ),
    )
    ledger = Ledger(settings.database_url, clock)
    try:
        yield WorkerContext(settings, ledger, Detectors(settings), {})
    finally:
        ledger.close()


def queued(context: WorkerContext) -> str:
    ledger = context.ledger
    arrival = Arrival("a", ArrivalSource.C_STORE, T0)
    ledger.intake.register(arrival)
    header = Instance("1.2.3", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", "1.2", "1")
    content = b"image"
    file = context.settings.received_dir / "a" / "1.dcm"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    [case_id] = ledger.intake.ingest(arrival, [IndexedFile("a/1.dcm", hashlib.sha256(content).hexdigest(), T0, header)]).opened
    ledger.cases.advance(case_id, CaseState.RECEIVING, CaseState.QUEUED, work=[Work(Stage.PREPARE, case_id)], case_key="key")
    publish(context)
    return case_id


def publish(context: WorkerContext) -> list[Work]:
    """What the daemon does; returns the work that was due."""
    due = context.ledger.outbox.due(context.ledger.clock())
    for posted in due:
        context.ledger.outbox.mark_published(posted)
    return [p.work for p in due]


def run(context: WorkerContext, case_id: str, body: Callable[[], Facts], *, redelivered: bool = False) -> bool:
    return run_stage(
        context,
        case_id,
        PREPARE,
        lambda _context, _case: body(),
        advance,
        redelivered=redelivered,
    )


def fails_with(error: BaseException) -> Callable[[], Facts]:
    def body() -> Facts:
        raise error

    return body


def get(context: WorkerContext, case_id: str) -> Case:
    case = context.ledger.cases.get(case_id)
    assert case is not None
    return case


def delivering(context: WorkerContext, *names: str) -> str:
    case_id = queued(context)
    cases = context.ledger.cases
    folder = context.folder(case_id)
    folder.path.mkdir(parents=True)
    PreparedRecord("1.2", (("1", "2"),), None, None, None, 0.5, 1.5).write(folder)
    finding = Finding(33.0, (30.0, 35.0), Side.LEFT, 0.9, True, 20.0, False, ModelIdentity("m", "1", "0" * 64))
    FindingRecord(finding, T0, 1.0).write(folder)
    folder.result.write_text("{}")
    cases.advance(case_id, CaseState.QUEUED, CaseState.PREPARED)
    cases.advance(case_id, CaseState.PREPARED, CaseState.DETECTED)
    context.ledger.deliveries.plan(case_id, CaseState.DETECTED, CaseState.DELIVERING, dict.fromkeys(names))
    publish(context)
    return case_id
