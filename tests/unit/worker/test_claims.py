"""How long a claim holds, and when a redelivered message takes over the claim of another worker."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from config.settings import Settings
from corewatch.stage_limits import VISIBILITY_MARGIN_S
from corewatch.states import PIPELINE, CaseState, DeliveryState, Stage
from ledger.store import Ledger
from tests.support.ledger import Clock, delivering, queued
from worker.context import WorkerContext, holder_name
from worker.delivery.sending import _claim
from worker.models.detectors import Detectors
from worker.stages.attempts import Facts, run_stage
from worker.tasks import advance

ELSEWHERE = "another-host/1/1"
DEAD_HERE = f"{socket.gethostname()}/4194304/1"
ALIVE_HERE = f"{socket.gethostname()}/{os.getppid()}/"


@pytest.fixture
def context(tmp_path: Path) -> Iterator[WorkerContext]:
    settings = Settings(data_dir=tmp_path)
    ledger = Ledger(settings.database_url, Clock())
    yield WorkerContext(settings, ledger, Detectors(settings), {})
    ledger.close()


def started_of(pid: int) -> int:
    import psutil

    return int(psutil.Process(pid).create_time())


def at_stage(context: WorkerContext, number: int) -> str:
    case_id = queued(context.ledger)
    for step in PIPELINE[:number]:
        assert context.ledger.cases.advance(case_id, step.before, step.after)
    return case_id


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_claim_of_a_stage_outlives_its_hard_limit_and_not_the_message(context: WorkerContext, number: int) -> None:
    case_id, step = at_stage(context, number), PIPELINE[number]
    leases: list[timedelta] = []

    def body(_context: WorkerContext, case: object) -> Facts:
        [held] = context.ledger.cases.held()
        assert held.lease_until is not None
        leases.append(held.lease_until - context.ledger.clock())
        raise SystemExit

    with pytest.raises(SystemExit):
        run_stage(context, case_id, step, body, advance, redelivered=False)
    hard_s = context.settings.work.limits.hard_s(step.stage)
    assert timedelta(seconds=hard_s) < leases[0] < timedelta(seconds=hard_s + VISIBILITY_MARGIN_S)


def test_so_does_the_claim_of_a_delivery(context: WorkerContext) -> None:
    case_id = delivering(context.ledger, pacs=None)
    claimed = _claim(context, case_id, "pacs", redelivered=False)
    assert claimed is not None
    assert claimed.holder == holder_name()
    assert claimed.lease_until is not None
    hard_s = context.settings.work.limits.hard_s(Stage.DELIVER)
    lease = claimed.lease_until - context.ledger.clock()
    assert timedelta(seconds=hard_s) < lease < timedelta(seconds=hard_s + VISIBILITY_MARGIN_S)


@pytest.mark.parametrize("redelivered", [True, False])
def test_a_redelivered_message_takes_a_stage_over_and_no_other_does(context: WorkerContext, redelivered: bool) -> None:
    case_id = queued(context.ledger)
    assert context.ledger.cases.begin(case_id, CaseState.QUEUED, holder=ELSEWHERE, lease_s=3600) is not None
    ran: list[str] = []

    def body(_context: WorkerContext, _case: object) -> Facts:
        ran.append(case_id)
        return {}

    run_stage(context, case_id, PIPELINE[0], body, advance, redelivered=redelivered)
    case = context.ledger.cases.get(case_id)
    assert case is not None
    assert (ran, case.state) == (([case_id], CaseState.PREPARED) if redelivered else ([], CaseState.QUEUED))


@pytest.mark.parametrize(
    ("holder", "redelivered", "taken_over"),
    [
        (None, True, True),
        (None, False, False),
        (ELSEWHERE, True, True),
        (ELSEWHERE, False, False),
        (DEAD_HERE, True, True),
        (DEAD_HERE, False, False),
        ("me", True, True),
        ("me", False, False),
        (ALIVE_HERE, True, False),  # it has the delivery in a digest: the message was not its own
        (ALIVE_HERE, False, False),
    ],
)
def test_a_redelivered_message_takes_a_delivery_over_unless_its_holder_lives_here(
    context: WorkerContext, holder: str | None, redelivered: bool, taken_over: bool
) -> None:
    case_id = delivering(context.ledger, pacs=None)
    if holder == ALIVE_HERE:
        holder += str(started_of(os.getppid()))
    assert context.ledger.deliveries.begin(case_id, "pacs", lease_s=3600, holder=holder_name() if holder == "me" else holder)
    claimed = _claim(context, case_id, "pacs", redelivered=redelivered)
    assert (claimed is not None) is taken_over
    [delivery] = context.ledger.deliveries.of(case_id)
    assert (delivery.state, delivery.attempts) == (DeliveryState.SENDING, 2 if taken_over else 1)
