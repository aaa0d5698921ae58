"""One attempt at a stage: what each kind of outcome leads to in the ledger. No broker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from corewatch.errors import NotAnalysed, OperatorNeeded, RetryLater
from corewatch.messages import Work
from corewatch.reasons import Reason
from corewatch.states import CaseState, Stage
from tests.support.attempts import fails_with, get, publish, queued, run, worker_context
from tests.support.ledger import Clock
from worker.context import WorkerContext


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def context(tmp_path: Path, clock: Clock) -> Iterator[WorkerContext]:
    with worker_context(tmp_path, clock) as context:
        yield context


def test_a_stage_that_works_moves_the_case_on(context: WorkerContext) -> None:
    case_id = queued(context)
    run(context, case_id, dict)
    assert get(context, case_id).state is CaseState.PREPARED
    assert publish(context) == [Work(Stage.DETECT, case_id)]


def test_a_message_that_comes_twice_does_nothing(context: WorkerContext) -> None:
    case_id = queued(context)
    run(context, case_id, dict)
    publish(context)
    run(context, case_id, fails_with(AssertionError("must not run")))
    run(context, case_id, fails_with(AssertionError("must not run")), redelivered=True)
    assert get(context, case_id).state is CaseState.PREPARED
    assert publish(context) == []


def test_an_unknown_case_is_no_crash(context: WorkerContext) -> None:
    run(context, "unknown", fails_with(AssertionError("must not run")))


def test_not_analysed_ends_with_its_reason_and_a_notice(context: WorkerContext) -> None:
    case_id = queued(context)
    run(context, case_id, fails_with(NotAnalysed(Reason.MISSING_SLICES, "Between 3 and 9 mm.")))
    case = get(context, case_id)
    assert (case.state, case.reason, case.detail) == (CaseState.NOT_ANALYSED, Reason.MISSING_SLICES, "Between 3 and 9 mm.")
    assert publish(context) == [Work(Stage.DELIVER, case_id, "operators")]


def test_an_operator_is_asked_at_once(context: WorkerContext) -> None:
    case_id = queued(context)
    run(context, case_id, fails_with(OperatorNeeded("the disk is read-only; mount it for writing")))
    case = get(context, case_id)
    assert (case.state, case.failed_stage) == (CaseState.FAILED, Stage.PREPARE)
    assert "read-only" in case.detail


@pytest.mark.parametrize("error", [RetryLater("later"), ValueError("Doe^Jane"), MemoryError()])
def test_a_failed_attempt_is_tried_again_then_given_up(context: WorkerContext, clock: Clock, error: Exception) -> None:
    case_id = queued(context)
    for attempt, wait in ((1, 5), (2, 10)):
        run(context, case_id, fails_with(error))
        case = get(context, case_id)
        assert (case.state, case.attempts) == (CaseState.QUEUED, attempt)
        clock.forward(wait - 1)
        assert publish(context) == []
        clock.forward(1)
        assert publish(context) == [Work(Stage.PREPARE, case_id)]
    run(context, case_id, fails_with(error))
    case = get(context, case_id)
    assert case.state is CaseState.FAILED
    assert "the last" in case.detail
    assert "Doe" not in case.detail
    assert publish(context) == [Work(Stage.DELIVER, case_id, "operators")]


def test_a_case_that_kills_its_workers_is_given_up(context: WorkerContext) -> None:
    case_id = queued(context)
    for _ in range(3):
        with pytest.raises(SystemExit):  # as a worker that is shot: nothing is written down any more
            run(context, case_id, fails_with(SystemExit()), redelivered=True)
        assert get(context, case_id).state is CaseState.QUEUED
    run(context, case_id, fails_with(AssertionError("must not run")), redelivered=True)
    assert get(context, case_id).state is CaseState.FAILED


def test_a_case_that_failed_leaves_the_next_alone(context: WorkerContext) -> None:
    case_id = queued(context)
    run(context, case_id, fails_with(OperatorNeeded("no")))
    assert context.ledger.cases.retry(case_id) is Stage.PREPARE
    publish(context)
    run(context, case_id, dict)
    assert get(context, case_id).state is CaseState.PREPARED


@pytest.mark.parametrize(
    ("error", "state", "destinations"),
    [
        (NotAnalysed(Reason.NOT_A_HEAD), CaseState.NOT_ANALYSED, {"operators", "folder", "archive"}),
        (OperatorNeeded("look"), CaseState.FAILED, {"operators", "folder"}),
    ],
)
def test_a_pacs_that_wants_the_page_of_a_case_not_analysed_gets_it_and_no_failure(
    tmp_path: Path, clock: Clock, error: Exception, state: CaseState, destinations: set[str]
) -> None:
    pacs = [
        {"name": name, "ae_title": "A", "host": "h", "port": 104, "not_analysed": name == "archive"} for name in ("main", "archive")
    ]
    with worker_context(tmp_path, clock, pacs=pacs, folder={"path": str(tmp_path / "results")}) as context:
        case_id = queued(context)
        run(context, case_id, fails_with(error))
        case = get(context, case_id)
        assert (case.state, case.failed_stage) == (state, Stage.PREPARE)
        assert {delivery.destination for delivery in context.ledger.deliveries.of(case_id)} == destinations


@pytest.mark.parametrize(
    ("error", "unknown"),
    [
        (None, False),
        (NotAnalysed(Reason.NOT_A_HEAD), False),
        (OperatorNeeded("look"), False),
        (RetryLater("later"), False),
        (ValueError("x"), True),
    ],
)
def test_it_says_whether_the_error_was_unknown(context: WorkerContext, error: Exception | None, unknown: bool) -> None:
    case_id = queued(context)
    assert run(context, case_id, dict if error is None else fails_with(error)) is unknown


def test_a_case_that_is_not_due_or_given_up_has_no_unknown_error(context: WorkerContext) -> None:
    assert run(context, "unknown", dict) is False
    case_id = queued(context)
    for _ in range(3):
        with pytest.raises(SystemExit):
            run(context, case_id, fails_with(SystemExit()), redelivered=True)
    assert run(context, case_id, dict, redelivered=True) is False
    assert "given up after 3 attempts" in get(context, case_id).detail


def test_every_line_of_the_log_names_case_and_stage_and_no_later_one_does(context: WorkerContext) -> None:
    case_id, seen = queued(context), list[dict[str, object]]()

    def body() -> dict[str, Any]:
        seen.append(structlog.contextvars.get_contextvars())
        raise SystemExit

    with pytest.raises(SystemExit):
        run(context, case_id, body)
    assert seen == [{"case": case_id, "stage": "prepare"}]
    assert structlog.contextvars.get_contextvars() == {}


def test_a_failed_attempt_frees_the_claim_of_this_worker_alone(context: WorkerContext) -> None:
    """The lease ran out while it worked, and another worker has the case by now."""
    case_id = queued(context)

    def body() -> dict[str, Any]:
        assert context.ledger.cases.begin(case_id, CaseState.QUEUED, holder="another/1/1", lease_s=60, takeover=True)
        raise ValueError

    run(context, case_id, body)
    assert [held.holder for held in context.ledger.cases.held()] == ["another/1/1"]
