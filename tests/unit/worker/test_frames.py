"""The frames around stages and deliveries: what becomes of each kind of outcome. A real ledger, no broker."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from config import Settings
from config.delivery import DeliverSettings, EmailSettings
from config.settings import WorkSettings
from corewatch.arrival import Arrival, ArrivalSource
from corewatch.errors import CorewatchError, NotAnalysed, OperatorNeeded, RetryLater
from corewatch.findings import Finding, ModelIdentity, Side
from corewatch.instance import Instance
from corewatch.messages import Work
from corewatch.reasons import Reason
from corewatch.states import PIPELINE, CaseState, DeliveryState, Stage
from foundation.safe_errors import describe_error
from ledger.cases import Case
from ledger.intake import IndexedFile
from ledger.store import Ledger
from outputs.case import ReportedCase
from outputs.destinations import Delivered
from worker.context import WorkerContext, holder_is_gone, holder_name
from worker.delivery.sending import run_delivery
from worker.models.detectors import Detectors
from worker.stages.attempts import Facts, run_stage
from worker.stages.case_files import FindingRecord, PreparedRecord
from worker.tasks import advance

PREPARE = PIPELINE[0]

T0 = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class Scripted:
    """A destination that does what its script says, one entry per attempt."""

    name: str
    script: list[BaseException | str]
    applies_not: str | None = None
    taken: list[ReportedCase] = field(default_factory=list)
    server: str | None = None

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


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def context(tmp_path: Path, clock: Clock) -> Iterator[WorkerContext]:
    settings = Settings(
        data_dir=tmp_path,
        work=WorkSettings(attempts=3),
        deliver=DeliverSettings(
            folder=None,
            email=EmailSettings(host="mail", **{"from": "a@b.example"}, operators=("ops@b.example",)),
            attempts=3,
            backoff_s=10,
        ),
    )
    ledger = Ledger(settings.database_url, clock)
    yield WorkerContext(settings, ledger, Detectors(settings), {})
    ledger.close()


def queued(context: WorkerContext) -> str:
    ledger = context.ledger
    arrival = Arrival("a", ArrivalSource.C_STORE, T0)
    ledger.intake.register(arrival)
    header = Instance("1.2.3", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", "1.2", "1")
    [case_id] = ledger.intake.take(arrival, [IndexedFile("a/1.dcm", "x", T0, header)]).opened
    ledger.cases.advance(case_id, CaseState.RECEIVING, CaseState.QUEUED, work=[Work(Stage.PREPARE, case_id)], case_key="key")
    publish(context)
    return case_id


def publish(context: WorkerContext) -> list[Work]:
    """What the daemon does; returns the work that was due."""
    due = context.ledger.outbox.due(context.ledger.clock())
    for posted in due:
        context.ledger.outbox.mark_published(posted)
    return [p.work for p in due]


def run(context: WorkerContext, case_id: str, body: Callable[[], Facts], *, redelivered: bool = False) -> None:
    run_stage(
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
        assert publish(context) == []
        clock.forward(wait)
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


def test_a_delivery_that_is_taken_ends_the_case(context: WorkerContext, clock: Clock) -> None:
    pacs = Scripted("pacs", ["26 objects"])
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
    pacs = Scripted("pacs", [])
    context.destinations["pacs"] = pacs
    case_id = delivering(context, "pacs")
    for redelivered in (False, True, True):
        run_delivery(context, case_id, "pacs", redelivered=redelivered)
    assert len(pacs.taken) == 1


def test_a_dead_pacs_does_not_hold_up_the_mail(context: WorkerContext, clock: Clock) -> None:
    context.destinations["pacs"] = Scripted("pacs", [RetryLater("down"), RetryLater("down"), "at last"])
    context.destinations["email"] = Scripted("email", ["sent"])
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
    context.destinations["pacs"] = Scripted("pacs", [RetryLater("down")] * 200)
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
    assert states == {"pacs": DeliveryState.REFUSED, "operators": DeliveryState.PENDING}


def test_waits_grow_to_an_hour(context: WorkerContext, clock: Clock) -> None:
    context.destinations["pacs"] = Scripted("pacs", [RetryLater("down")] * 200)
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
    context.destinations["pacs"] = Scripted("pacs", [ValueError("bug")] * 10)
    case_id = delivering(context, "pacs")
    for _ in range(3):
        assert get(context, case_id).state is CaseState.DELIVERING
        run_delivery(context, case_id, "pacs", redelivered=False)
        clock.forward(3600)
        publish(context)
    assert get(context, case_id).state is CaseState.FAILED


def test_a_delivery_that_kills_its_workers_is_given_up(context: WorkerContext) -> None:
    context.destinations["pacs"] = Scripted("pacs", [SystemExit()] * 3)
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
    pacs = Scripted("pacs", [])
    context.destinations["pacs"] = pacs
    case_id = delivering(context, "pacs")
    arrival = Arrival("b", ArrivalSource.C_STORE, T0)
    context.ledger.intake.register(arrival)
    header = Instance("1.2.4", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", "1.2", "1")
    [newer] = context.ledger.intake.take(arrival, [IndexedFile("b/1.dcm", "y", T0, header)]).opened
    context.ledger.cases.supersede_earlier(newer)
    run_delivery(context, case_id, "pacs", redelivered=False)
    assert pacs.taken == []
    assert get(context, case_id).state is CaseState.SUPERSEDED
    [delivery] = context.ledger.deliveries.of(case_id)
    assert delivery.state is DeliveryState.SKIPPED


def test_a_notice_gets_its_page(context: WorkerContext) -> None:
    operators = Scripted("operators", ["mailed"])
    context.destinations["operators"] = operators
    case_id = queued(context)
    run(context, case_id, fails_with(NotAnalysed(Reason.NOT_A_HEAD)))
    run_delivery(context, case_id, "operators", redelivered=False)
    assert context.folder(case_id).summary.stat().st_size > 1000
    assert json.loads(context.folder(case_id).result.read_text())["reason"] == "not_a_head"
    assert get(context, case_id).state is CaseState.NOT_ANALYSED


def test_foreign_errors_are_described_without_their_words() -> None:
    with pytest.raises(ValueError, match="Doe") as caught:
        fails_with(ValueError("PatientName Doe^Jane"))()
    text = describe_error(caught.value)
    assert text.startswith("ValueError at ")
    assert "test_frames.py" in text
    assert "Doe" not in text
    assert describe_error(RetryLater("say this")) == "say this"
    assert isinstance(RetryLater(), CorewatchError)


def test_holders_are_known_by_more_than_their_number() -> None:
    assert not holder_is_gone(holder_name())
    host, pid, started = holder_name().rsplit("/", 2)
    assert holder_is_gone(f"{host}/{pid}/{int(started) - 1000}")
    assert holder_is_gone(f"{host}/4194304/1")
    assert not holder_is_gone(f"another-{host}/{pid}/1")
    assert not holder_is_gone("nonsense")


def test_a_holder_that_has_ended_is_gone_though_nobody_has_asked_how() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        holder = f"{socket.gethostname()}/{process.pid}/{int(psutil.Process(process.pid).create_time())}"
        assert not holder_is_gone(holder)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # leaves the zombie
        assert holder_is_gone(holder)
