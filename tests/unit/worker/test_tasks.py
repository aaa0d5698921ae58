"""The pipeline's table and the tasks made from it: names on the wire, states, and what the detect task does without its model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from celery import Celery
from celery.exceptions import Reject

import worker.tasks
from config.settings import Settings, WorkSettings
from conversion.nifti import write_aligned
from corewatch.errors import NotAnalysed, OperatorNeeded, RetryLater
from corewatch.geometry import NETWORK_SHAPE
from corewatch.messages import Work
from corewatch.reasons import Reason
from corewatch.states import PIPELINE, TRANSITIONS, CaseState, Stage
from corewatch.volumes import AlignedHead
from jobs.app import make_app
from jobs.names import QUEUE_OF, QUEUES, task_name
from ledger.cases import Case
from ledger.store import Ledger
from tests.support.ledger import Clock, queued, write_received
from worker.context import WorkerContext
from worker.models.detectors import Detectors
from worker.models.readiness import ModelKeeper, ModelStatus, Readiness
from worker.stages.bodies import STAGE_BODIES
from worker.stages.case_files import PreparedRecord


def test_the_table_of_the_stages() -> None:
    assert [(step.stage, step.before, step.after, step.queue, task_name(step.stage)) for step in PIPELINE] == [
        (Stage.PREPARE, CaseState.QUEUED, CaseState.PREPARED, "prepare", "corewatch.prepare"),
        (Stage.DETECT, CaseState.PREPARED, CaseState.DETECTED, "detect", "corewatch.detect"),
        (Stage.RENDER, CaseState.DETECTED, CaseState.DELIVERING, "deliver", "corewatch.render"),
        (Stage.DELIVER, CaseState.DELIVERING, CaseState.DELIVERED, "deliver", "corewatch.deliver"),
    ]
    assert QUEUES == ("prepare", "detect", "deliver")
    assert {step.stage: step.queue for step in PIPELINE} == QUEUE_OF
    assert all(step.after in TRANSITIONS[step.before] for step in PIPELINE)
    assert {*STAGE_BODIES, Stage.DELIVER} == set(Stage)


def test_each_stage_has_its_task_with_queue_and_limits() -> None:
    app = make_app("memory://")
    worker.tasks.register(app, lambda: pytest.fail("not called"))
    for step in PIPELINE:
        assert task_name(step.stage) in app.tasks
        assert app.conf.task_routes[task_name(step.stage)] == {"queue": step.queue}
        assert app.conf.task_annotations[task_name(step.stage)]["soft_time_limit"] == 180


class Bench:
    """The registered tasks, called without a broker, on a case that waits for `detect`."""

    def __init__(self, folder: Path) -> None:
        settings = Settings(data_dir=folder, work=WorkSettings(attempts=3))
        self.ledger = Ledger(settings.database_url, Clock())
        self.context = WorkerContext(settings, self.ledger, Detectors(settings), {})
        self.loaded = 0
        self.status = ModelStatus()
        self.context.keeper = ModelKeeper(self.status, self._load, end=lambda _code: None)
        self.app: Celery = make_app("memory://")
        worker.tasks.register(self.app, lambda: self.context)
        self.case_id = queued(self.ledger)
        write_received(settings.received_dir)

    def _load(self) -> None:
        self.loaded += 1

    def run(self, stage: Stage) -> None:
        self.app.tasks[task_name(stage)](self.case_id)

    @property
    def case(self) -> Case:
        case = self.ledger.cases.get(self.case_id)
        assert case is not None
        return case

    def work(self) -> set[Work]:
        return {posted.work for posted in self.ledger.outbox.due(self.ledger.clock())}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.ledger.close()


def raises(error: Exception) -> object:
    def body(_case: object) -> None:
        raise error

    return body


def prepared(bench: Bench) -> Bench:
    bench.status.write(Readiness.READY)
    folder = bench.context.folder(bench.case_id)
    folder.path.mkdir(parents=True)
    write_aligned(folder.aligned, AlignedHead(np.zeros(NETWORK_SHAPE, np.uint8), None, None))
    PreparedRecord(None, (), None, None, None, 0.1, None).write(folder)
    bench.ledger.cases.advance(bench.case_id, CaseState.QUEUED, CaseState.PREPARED)
    return bench


@pytest.mark.parametrize(
    ("error", "loads"),
    [
        (RuntimeError("CUDA_ERROR_LAUNCH_FAILED"), 1),
        (RetryLater("later"), 0),
        (OperatorNeeded("look"), 0),
        (NotAnalysed(Reason.MODEL_MISSING), 0),
    ],
)
def test_only_an_unknown_error_of_detect_revalidates_the_model(
    bench: Bench, error: Exception, loads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.tasks, "STAGE_BODIES", dict.fromkeys(STAGE_BODIES, raises(error)))
    prepared(bench).run(Stage.DETECT)
    assert bench.loaded == loads


def test_an_unknown_error_of_another_stage_leaves_the_model_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.tasks, "STAGE_BODIES", dict.fromkeys(STAGE_BODIES, raises(RuntimeError())))
    bench.run(Stage.PREPARE)
    assert bench.case.attempts == 1
    assert bench.loaded == 0


@pytest.mark.parametrize("readiness", [Readiness.LOADING, Readiness.MISSING])
def test_without_a_model_the_message_is_given_back_and_no_attempt_is_counted(
    bench: Bench, readiness: Readiness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.tasks, "REQUEUE_DELAY_S", 0.0)
    prepared(bench).status.write(readiness)
    with pytest.raises(Reject) as rejected:
        bench.run(Stage.DETECT)
    assert rejected.value.requeue
    assert (bench.case.state, bench.case.attempts) == (CaseState.PREPARED, 0)


def test_prepare_moves_the_case_on_keeps_the_settings_and_posts_detect(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.tasks, "STAGE_BODIES", dict.fromkeys(STAGE_BODIES, lambda _case: None))
    bench.run(Stage.PREPARE)
    assert bench.case.state is CaseState.PREPARED
    assert Work(Stage.DETECT, bench.case_id) in bench.work()
    assert '"attempts": 3' in bench.context.folder(bench.case_id).settings.read_text()
