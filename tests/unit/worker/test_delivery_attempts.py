"""One attempt at a delivery: what each kind of outcome leads to in the ledger. No broker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import structlog

from corewatch.arrival import Arrival, ArrivalSource
from corewatch.errors import DeliveryWithdrawn, NotAnalysed, OperatorNeeded, RetryLater
from corewatch.instance import Instance
from corewatch.messages import Work
from corewatch.reasons import Reason
from corewatch.states import CaseState, DeliveryState, Stage
from ledger.intake import IndexedFile
from outputs.case import ReportedCase
from outputs.destinations import Delivered
from tests.support.attempts import ScriptedDestination, delivering, fails_with, get, publish, queued, run, worker_context
from tests.support.ledger import T0, Clock
from worker.context import WorkerContext
from worker.delivery.sending import run_delivery


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def context(tmp_path: Path, clock: Clock) -> Iterator[WorkerContext]:
    with worker_context(tmp_path, clock) as context:
        yield context


def test_a_delivery_that_is_taken_ends_the_case(context: WorkerContext, clock: Clock) -> None:
    pacs = ScriptedDestination("pacs", ["26 objects"])
    context.destinations["pacs"] = pacs
    case_id = delivering(context, "pacs")
    clock.forward(7)
    run_delivery(context, case_id, "pacs", redelivered=False)
    assert get(context, case_id).state is CaseState.DELIVERED
    [delivery] = context.ledger.deliveries.of(case_id)
    assert (delivery.state, delivery.detail) == (DeliveryState.SENT, "26 objects")
    [taken] = pacs.taken
    assert taken.result.finding is not None
    assert taken.result.finding.core_ml == 33.0
    result = json.loads(context.folder(case_id).result.read_text())
    assert result["state"] == "delivered"
    assert result["timings_s"]["last_image_to_alert"] == 7.0
    assert result["timings_s"]["deliver"] == 7.0


def test_a_delivery_is_done_once(context: WorkerContext) -> None:
    pacs = ScriptedDestination("pacs", [])
    context.destinations["pacs"] = pacs
    case_id = delivering(context, "pacs")
    for redelivered in (False, True, True):
        run_delivery(context, case_id, "pacs", redelivered=redelivered)
    assert len(pacs.taken) == 1


def test_a_dead_pacs_does_not_hold_up_the_mail(context: WorkerContext, clock: Clock) -> None:
    context.destinations["pacs"] = ScriptedDestination("pacs", [RetryLater("down"), RetryLater("down"), "at last"])
    context.destinations["email"] = ScriptedDestination("email", ["sent"])
    case_id = delivering(context, "pacs", "email")
    run_delivery(context, case_id, "pacs", redelivered=False)
    run_delivery(context, case_id, "email", redelivered=False)
    states = {d.destination: d.state for d in context.ledger.deliveries.of(case_id)}
    assert states == {"pacs": DeliveryState.PENDING, "email": DeliveryState.SENT}
    for wait in (10, 20):
        assert publish(context) == []
        clock.forward(wait)
        assert publish(context) == [Work(Stage.DELIVER, case_id, "pacs")]
        run_delivery(context, case_id, "pacs", redelivered=False)
    assert get(context, case_id).state is CaseState.DELIVERED


def test_patience_ends_by_the_clock(context: WorkerContext, clock: Clock) -> None:
    context.destinations["pacs"] = ScriptedDestination("pacs", [RetryLater("down")] * 200)
    case_id = delivering(context, "pacs")
    tries = 0
    while get(context, case_id).state is CaseState.DELIVERING:
        run_delivery(context, case_id, "pacs", redelivered=False)
        tries += 1
        clock.forward(3600)
        publish(context)
        assert tries < 100
    assert clock.now - T0 >= timedelta(hours=48)
    assert tries > 40
    case = get(context, case_id)
    assert (case.state, case.failed_stage) == (CaseState.FAILED, Stage.DELIVER)
    states = {d.destination: d.state for d in context.ledger.deliveries.of(case_id)}
    assert states == {"pacs": DeliveryState.REFUSED, "refusal-pacs": DeliveryState.PENDING}


def test_waits_grow_to_an_hour(context: WorkerContext, clock: Clock) -> None:
    context.destinations["pacs"] = ScriptedDestination("pacs", [RetryLater("down")] * 200)
    case_id = delivering(context, "pacs")
    waits = []
    for _ in range(14):
        run_delivery(context, case_id, "pacs", redelivered=False)
        [delivery] = context.ledger.deliveries.of(case_id)
        assert delivery.next_attempt_at is not None
        waits.append((delivery.next_attempt_at - clock.now).total_seconds())
        clock.now = delivery.next_attempt_at
        publish(context)
    assert waits[:4] == [10, 10, 20, 40]
    assert waits[-1] == 3600
    assert waits == sorted(waits)


def test_a_fault_of_ours_is_given_up_by_number(context: WorkerContext, clock: Clock) -> None:
    context.destinations["pacs"] = ScriptedDestination("pacs", [ValueError("bug")] * 10)
    case_id = delivering(context, "pacs")
    for _ in range(3):
        assert get(context, case_id).state is CaseState.DELIVERING
        run_delivery(context, case_id, "pacs", redelivered=False)
        clock.forward(3600)
        publish(context)
    assert get(context, case_id).state is CaseState.FAILED


def test_a_delivery_that_kills_its_workers_is_given_up(context: WorkerContext) -> None:
    context.destinations["pacs"] = ScriptedDestination("pacs", [SystemExit()] * 3)
    case_id = delivering(context, "pacs")
    for _ in range(3):
        with pytest.raises(SystemExit):
            run_delivery(context, case_id, "pacs", redelivered=True)
    run_delivery(context, case_id, "pacs", redelivered=True)
    assert get(context, case_id).state is CaseState.FAILED


def test_a_destination_that_was_taken_out_of_the_settings(context: WorkerContext) -> None:
    case_id = delivering(context, "old-pacs")
    run_delivery(context, case_id, "old-pacs", redelivered=False)
    assert get(context, case_id).state is CaseState.FAILED


def test_a_superseded_result_is_not_sent_any_more(context: WorkerContext) -> None:
    pacs = ScriptedDestination("pacs", [])
    context.destinations["pacs"] = pacs
    case_id = delivering(context, "pacs")
    arrival = Arrival("b", ArrivalSource.C_STORE, T0)
    context.ledger.intake.register(arrival)
    header = Instance("1.2.4", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", "1.2", "1")
    [newer] = context.ledger.intake.ingest(arrival, [IndexedFile("b/1.dcm", "y", T0, header)]).opened
    context.ledger.cases.supersede_earlier(newer)
    run_delivery(context, case_id, "pacs", redelivered=False)
    assert pacs.taken == []
    assert get(context, case_id).state is CaseState.SUPERSEDED
    [delivery] = context.ledger.deliveries.of(case_id)
    assert delivery.state is DeliveryState.SKIPPED


def test_a_notice_gets_its_page(context: WorkerContext) -> None:
    operators = ScriptedDestination("operators", ["mailed"])
    context.destinations["operators"] = operators
    case_id = queued(context)
    run(context, case_id, fails_with(NotAnalysed(Reason.NOT_A_HEAD)))
    run_delivery(context, case_id, "operators", redelivered=False)
    assert context.folder(case_id).summary.stat().st_size > 1000
    assert json.loads(context.folder(case_id).result.read_text())["reason"] == "not_a_head"
    assert get(context, case_id).state is CaseState.NOT_ANALYSED


def test_a_destination_that_does_not_want_the_case_is_skipped_with_its_reason(context: WorkerContext) -> None:
    pacs = ScriptedDestination("pacs", [], applies_not="no DICOM source")
    context.destinations["pacs"] = pacs
    case_id = delivering(context, "pacs")
    run_delivery(context, case_id, "pacs", redelivered=False)
    [delivery] = context.ledger.deliveries.of(case_id)
    assert (delivery.state, delivery.detail, pacs.taken) == (DeliveryState.SKIPPED, "no DICOM source", [])


def test_a_withdrawn_delivery_is_skipped(context: WorkerContext) -> None:
    context.destinations["escalation-1"] = ScriptedDestination("escalation-1", [DeliveryWithdrawn("acknowledged")])
    case_id = delivering(context, "escalation-1")
    run_delivery(context, case_id, "escalation-1", redelivered=False)
    [delivery] = context.ledger.deliveries.of(case_id)
    assert (delivery.state, delivery.detail) == (DeliveryState.SKIPPED, "acknowledged")


def test_a_destination_that_refuses_is_not_tried_again(context: WorkerContext) -> None:
    context.destinations["pacs"] = ScriptedDestination("pacs", [OperatorNeeded("it refuses every object")])
    case_id = delivering(context, "pacs")
    run_delivery(context, case_id, "pacs", redelivered=False)
    delivery = next(d for d in context.ledger.deliveries.of(case_id) if d.destination == "pacs")
    assert (delivery.state, delivery.detail) == (DeliveryState.REFUSED, "it refuses every object")


def test_an_absent_destination_costs_no_attempts_and_an_unknown_error_does(context: WorkerContext, clock: Clock) -> None:
    context.destinations["pacs"] = ScriptedDestination("pacs", [RetryLater("down")] * 5 + [ValueError("bug")])
    case_id = delivering(context, "pacs")
    for _ in range(5):
        run_delivery(context, case_id, "pacs", redelivered=False)
        clock.forward(3600)
        publish(context)
    [delivery] = context.ledger.deliveries.of(case_id)
    assert (delivery.state, delivery.attempts) == (DeliveryState.PENDING, 0)
    run_delivery(context, case_id, "pacs", redelivered=False)
    [delivery] = context.ledger.deliveries.of(case_id)
    assert (delivery.state, delivery.attempts) == (DeliveryState.PENDING, 1)


def test_the_record_says_why_a_delivery_was_given_up(context: WorkerContext, clock: Clock) -> None:
    context.destinations["pacs"] = ScriptedDestination("pacs", [RetryLater("down")] * 2)
    case_id = delivering(context, "pacs")
    clock.forward(timedelta(hours=48).total_seconds() - 1)
    run_delivery(context, case_id, "pacs", redelivered=False)
    assert get(context, case_id).state is CaseState.DELIVERING
    clock.forward(3600)
    publish(context)
    run_delivery(context, case_id, "pacs", redelivered=False)
    delivery = next(d for d in context.ledger.deliveries.of(case_id) if d.destination == "pacs")
    assert delivery.state is DeliveryState.REFUSED
    assert delivery.detail == "down (given up after 2 days, 0:59:59)"


def test_a_delivery_that_kills_its_workers_says_so(context: WorkerContext) -> None:
    context.destinations["pacs"] = ScriptedDestination("pacs", [SystemExit()] * 3)
    case_id = delivering(context, "pacs")
    for _ in range(3):
        with pytest.raises(SystemExit):
            run_delivery(context, case_id, "pacs", redelivered=True)
    run_delivery(context, case_id, "pacs", redelivered=True)
    delivery = next(d for d in context.ledger.deliveries.of(case_id) if d.destination == "pacs")
    assert (delivery.state, delivery.detail) == (DeliveryState.REFUSED, "given up after 3 attempts; the worker ended each time")


def test_an_unknown_case_or_destination_is_no_crash(context: WorkerContext) -> None:
    run_delivery(context, "unknown", "pacs", redelivered=False)
    case_id = delivering(context, "pacs")
    run_delivery(context, case_id, "never planned", redelivered=False)
    assert {d.destination: d.state for d in context.ledger.deliveries.of(case_id)} == {"pacs": DeliveryState.PENDING}


def test_every_line_of_the_log_names_case_and_destination_and_no_later_one_does(context: WorkerContext) -> None:
    seen: list[dict[str, object]] = []

    class Watching(ScriptedDestination):
        def deliver(self, case: ReportedCase) -> Delivered:
            seen.append(structlog.contextvars.get_contextvars())
            return super().deliver(case)

    context.destinations["pacs"] = Watching("pacs", ["sent"])
    case_id = delivering(context, "pacs")
    run_delivery(context, case_id, "pacs", redelivered=False)
    assert seen == [{"case": case_id, "destination": "pacs"}]
    assert structlog.contextvars.get_contextvars() == {}
