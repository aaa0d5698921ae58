"""The deliver queue without a broker: a real ledger, real destinations, and a clock that jumps from one due work to the next."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from config.settings import Settings
from corewatch.arrival import Arrival, ArrivalSource
from corewatch.findings import Finding, ModelIdentity, Side
from corewatch.instance import Instance
from corewatch.reasons import Reason
from corewatch.states import CaseState, Stage
from ledger.intake import IndexedFile
from ledger.store import Ledger
from tests.support.ledger import Clock
from worker.context import WorkerContext, destinations_of
from worker.delivery.sending import run_delivery
from worker.models.detectors import Detectors
from worker.stages.case_files import FindingRecord, PreparedRecord


@dataclass
class Office:
    """Makes cases that are ready for delivery, and runs the tasks in the outbox."""

    context: WorkerContext
    clock: Any
    """Moved by `work_for`; any clock where that is not used."""
    made: int = 0
    done: list[tuple[str, str]] = field(default_factory=list)

    @property
    def ledger(self) -> Ledger:
        return self.context.ledger

    def _received(self, email: tuple[str, ...] = ()) -> str:
        self.made += 1
        arrival = Arrival(f"a{self.made}", ArrivalSource.C_STORE, self.clock(), "SCANNER", "10.0.0.5", email)
        self.ledger.intake.register(arrival)
        uid = f"1.2.{self.made}"
        header = Instance(f"{uid}.1", CTImageStorage, ExplicitVRLittleEndian, uid, f"9.{self.made}")
        [case_id] = self.ledger.intake.ingest(arrival, [IndexedFile(f"a{self.made}/1.dcm", uid, self.clock(), header)]).opened
        self.ledger.cases.advance(case_id, CaseState.RECEIVING, CaseState.QUEUED, case_key=f"key {self.made}")
        return case_id

    def _prepared(self, email: tuple[str, ...] = ()) -> str:
        case_id = self._received(email)
        folder = self.context.folder(case_id)
        folder.path.mkdir(parents=True)
        PreparedRecord("1.2", (("1", "2"),), None, None, None, 0.5, 1.5).write(folder)
        self.ledger.cases.advance(case_id, CaseState.QUEUED, CaseState.PREPARED)
        return case_id

    def find(self, case_id: str, core_ml: float) -> None:
        """Give a prepared case its finding."""
        folder, alert = self.context.folder(case_id), core_ml >= 20
        finding = Finding(core_ml, None, Side.LEFT, 0.9, alert, 20.0, False, ModelIdentity("m", "1", "0" * 64))
        FindingRecord(finding, self.clock(), 1.0).write(folder)
        folder.result.write_text("{}")
        facts = {"core_ml": core_ml, "side": "left", "alert": alert}
        self.ledger.cases.advance(case_id, CaseState.PREPARED, CaseState.DETECTED, **facts)

    def found(self, core_ml: float, *names: str, email: tuple[str, ...] = (), **more: Any) -> str:
        """A case with a finding, planned for these destinations; `email` belongs to where it came in."""
        case_id = self._prepared(email)
        self.find(case_id, core_ml)
        if core_ml >= 20:  # as the last stage does
            levels = self.context.settings.deliver.escalation
            more.setdefault("escalation", [timedelta(minutes=level.after_min) for level in levels])
        self.ledger.deliveries.plan(case_id, CaseState.DETECTED, CaseState.DELIVERING, dict.fromkeys(names), **more)
        return case_id

    def failed(self, *names: str) -> str:
        """A case whose detection failed, with its notices."""
        case_id = self._prepared()
        facts = {"detail": "the worker ended each time", "failed_stage": Stage.DETECT}
        self.ledger.deliveries.plan(case_id, CaseState.PREPARED, CaseState.FAILED, dict.fromkeys(names), **facts)
        return case_id

    def not_analysed(self) -> str:
        """A case that is reported to the operators."""
        case_id = self._received()
        notices = {"operators": None}
        self.ledger.deliveries.plan(
            case_id, CaseState.QUEUED, CaseState.NOT_ANALYSED, notices, reason=Reason.TOO_FEW_SLICES, detail="It has 3."
        )
        return case_id

    def work(self) -> int:
        """Do what is due now; returns how much that was."""
        count = 0
        while due := self.ledger.outbox.due(self.clock(), limit=1000):
            for posted in due:
                self.ledger.outbox.mark_published(posted)
                if posted.work.stage is Stage.DELIVER:
                    assert posted.work.destination is not None
                    self.done.append((posted.work.case_id, posted.work.destination))
                    run_delivery(self.context, posted.work.case_id, posted.work.destination, redelivered=False)
                    count += 1
        return count

    def work_for(self, hours: float, step_s: float = 60.0) -> None:
        """Let time go by."""
        end = self.clock.now + timedelta(hours=hours)
        while self.clock.now < end:
            self.work()
            self.clock.forward(step_s)
        self.work()


def open_office(folder: Path, clock: Clock, deliver: dict[str, Any], url: str | None = None, **sections: Any) -> Office:
    """An office with these settings under `deliver`."""
    database = {} if url is None else {"database": {"url": url}}
    settings = Settings.model_validate({"data_dir": str(folder), "deliver": {"folder": None, **deliver}, **database, **sections})
    ledger = Ledger(settings.database_url, clock)
    destinations = destinations_of(settings, ledger.mail_receipts, ledger.stored_objects)
    return Office(WorkerContext(settings, ledger, Detectors(settings), destinations), clock)
