"""A case that kills its workers ends in front of an operator after its attempts, with its whole history."""

from __future__ import annotations

import json
import tempfile
from datetime import timedelta
from itertools import product
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import corewatch
from config.settings import Settings, WorkSettings
from corewatch.states import PIPELINE, CaseState, Stage
from daemon.upkeep.overdue import Reconciler
from ledger.cases import Case
from ledger.store import Ledger
from tests.support.ledger import Clock, queued, write_received
from worker.context import WorkerContext
from worker.models.detectors import Detectors
from worker.stages.attempts import Facts, run_stage

ATTEMPTS = 3


class Killed(BaseException):
    """The end of the worker's process."""


class Plant:
    """Ledger, reconciler, and a worker that the case kills; the broker is the test."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        settings = Settings(data_dir=folder / "data", work=WorkSettings(attempts=ATTEMPTS))
        self.ledger = Ledger(settings.database_url, self.clock)
        self.context = WorkerContext(settings, self.ledger, Detectors(settings), {})
        self.reconciler = Reconciler(self.ledger)
        self.case_id = queued(self.ledger)
        write_received(settings.received_dir)
        self.attempts = 0

    @property
    def case(self) -> Case:
        case = self.ledger.cases.get(self.case_id)
        assert case is not None
        return case

    def messages(self) -> int:
        """What the dispatcher hands to the broker now."""
        due = [p for p in self.ledger.outbox.due(self.clock()) if p.work.stage is Stage.PREPARE]
        for posted in due:
            self.ledger.outbox.mark_published(posted)
        return len(due)

    def work(self, end: str, *, redelivered: bool) -> None:
        def body(_context: WorkerContext, _case: Case) -> Facts:
            self.attempts += 1
            if end == "error":
                raise ValueError("Secret^Name")
            raise Killed

        try:
            run_stage(self.context, self.case_id, PIPELINE[0], body, lambda *_: True, redelivered=redelivered)
        except Killed:
            return

    def until_the_next_message(self) -> None:
        """Time passes until the reconciler or a wait that is over brings one."""
        for _ in range(400):
            self.clock.now += timedelta(seconds=5)
            self.reconciler.step(self.clock())
            if self.messages() or self.case.state is CaseState.FAILED:
                return
        raise AssertionError("the case is no longer retried, but it has not ended")


@pytest.mark.parametrize("ends", list(product(["error", "killed", "killed, message lost"], repeat=ATTEMPTS)))
def test_it_is_parked_after_so_many_attempts(ends: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        plant = Plant(Path(folder))
        assert plant.messages() == 1
        redelivered = False
        for end in (*ends, "killed"):
            if plant.case.state is CaseState.FAILED:
                break
            plant.work(end, redelivered=redelivered)
            redelivered = end == "killed"  # the broker knows of its worker's end, and gives the message out again at once
            if not redelivered and plant.case.state is not CaseState.FAILED:
                plant.until_the_next_message()
        case = plant.case
        assert (case.state, case.failed_stage, plant.attempts) == (CaseState.FAILED, Stage.PREPARE, ATTEMPTS)
        events = [line.event for line in plant.ledger.cases.history(plant.case_id)]
        assert events.count("case.failed") == 1
        assert events.count("stage.prepare.begun") in (ATTEMPTS, ATTEMPTS + 1), "the last look only finds that they are used up"
        plant.clock.now += timedelta(days=1)
        plant.reconciler.step(plant.clock())
        assert plant.messages() == 0, "it does not circle"
        plant.ledger.close()


def test_its_history_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant = Plant(tmp_path)
    for end in ("killed", "error", "killed"):
        plant.work(end, redelivered=True)
    plant.work("killed", redelivered=True)
    plant.ledger.close()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corewatch.yaml").write_text("data_dir: ./data\n")
    shown = json.loads(CliRunner().invoke(corewatch, ["cases", "show", "--json", plant.case_id]).output)
    story = [(line["event"], line["detail"].get("attempt")) for line in shown["history"] if line["event"].startswith("stage.")]
    assert story == [
        ("stage.prepare.begun", 1),
        ("stage.prepare.begun", 2),
        ("stage.prepare.failed", None),
        ("stage.prepare.begun", 3),
        ("stage.prepare.begun", 4),
    ]
    assert shown["state"] == "failed"
    assert f"given up after {ATTEMPTS} attempts" in shown["reason_text"]
    text = CliRunner().invoke(corewatch, ["cases", "show", plant.case_id]).output
    assert text.count("stage.prepare.begun") == 4
    assert "Secret" not in json.dumps(shown) + text
