"""The queue is open while the model is loaded, and a missing model is reported: clock, queue and monitor are the test's."""

from __future__ import annotations

import multiprocessing
import threading
from contextlib import suppress

import pytest
from celery import signals
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from corewatch import RESEARCH_LABEL
from outputs.mail.operator_notice import OneNoticePerOutage, compose_notice, no_model_notice
from worker.models import readiness
from worker.models.readiness import HEARTBEAT_S, LOADING_LIMIT_S, PROBLEM_AFTER_S, ModelKeeper, ModelStatus, QueueGate, Readiness


class Queue:
    """What the gate did, in order."""

    def __init__(self) -> None:
        self.status = ModelStatus()
        self.done: list[str] = []
        self.alarms: list[str] = []
        self.gate = QueueGate(
            self.status,
            open_queue=lambda: self.done.append("open"),
            close_queue=lambda: self.done.append("close"),
            show_missing=lambda: self.done.append("missing"),
            show_recovered=lambda: self.done.append("recovered"),
            alarm=self.alarms.append,
        )


def test_the_queue_opens_once_the_model_is_ready_and_closes_with_it() -> None:
    queue = Queue()
    for now, (state, expected) in enumerate(
        [
            (Readiness.LOADING, []),
            (Readiness.READY, ["open"]),
            (Readiness.READY, ["open"]),
            (Readiness.LOADING, ["open", "close"]),
            (Readiness.READY, ["open", "close", "open"]),
        ]
    ):
        queue.status.write(state)
        queue.gate.step(float(now))
        assert queue.done == expected


def test_a_missing_model_is_shown_at_every_heartbeat_until_it_is_found() -> None:
    queue = Queue()
    queue.status.write(Readiness.MISSING, "no such model")
    for second in range(int(3 * HEARTBEAT_S)):
        queue.gate.step(float(second))
    assert queue.done == ["missing"] * 3

    queue.status.write(Readiness.LOADING)  # the next try: nothing is known yet
    queue.gate.step(100.0)
    assert queue.done == ["missing"] * 3
    queue.status.write(Readiness.READY)
    queue.gate.step(101.0)
    assert queue.done == ["missing"] * 3 + ["open", "recovered"]


def test_the_operators_are_told_when_it_stays_missing_and_not_before() -> None:
    queue = Queue()
    queue.status.write(Readiness.MISSING, "no such model")
    queue.gate.step(0.0)
    queue.gate.step(PROBLEM_AFTER_S - 1)
    assert queue.alarms == []
    queue.gate.step(PROBLEM_AFTER_S)
    queue.gate.step(PROBLEM_AFTER_S + 1)
    assert queue.alarms == ["no such model"]
    queue.gate.step(2 * PROBLEM_AFTER_S)
    assert len(queue.alarms) == 2


def test_a_model_that_is_never_loaded_is_missing_too() -> None:
    """The process hangs, or ends each time while it loads and is replaced by the next: nobody would say anything."""
    queue = Queue()
    for second in range(int(LOADING_LIMIT_S + PROBLEM_AFTER_S) + 1):
        queue.gate.step(float(second))
        assert ("missing" in queue.done) == (second >= LOADING_LIMIT_S)
    [alarm] = queue.alarms
    assert "still not loaded" in alarm
    queue.status.write(Readiness.READY)
    queue.gate.step(1000.0)
    assert queue.done[-2:] == ["open", "recovered"]
    queue.status.write(Readiness.LOADING)
    queue.gate.step(1001.0)
    queue.gate.step(1000.0 + LOADING_LIMIT_S)
    assert queue.done[-1] == "close", "again each time"


def test_each_problem_is_logged_at_once_and_once() -> None:
    queue = Queue()
    with capture_logs() as said:
        for second, problem in enumerate(["no weights", "no weights", "no GPU", "no GPU", "no GPU"]):
            queue.status.write(Readiness.MISSING, problem)
            queue.gate.step(float(second))
    assert [line["why"] for line in said] == ["no weights", "no GPU"]


def test_a_notice_is_sent_until_it_was_taken_and_then_only_at_the_next_outage() -> None:
    answers, told = [False, True, True], []

    def tell(problem: str) -> bool:
        told.append(problem)
        return answers[len(told) - 1]

    notice = OneNoticePerOutage(tell)
    for _ in range(4):
        notice.report("gone")
        notice.wait(30)
    assert told == ["gone"] * 2
    notice.reset()
    notice.report("gone again")
    notice.wait(30)
    assert told == ["gone", "gone", "gone again"]


def test_the_mail_says_what_is_wrong_and_what_to_do() -> None:
    notice = no_model_notice("model x: weights.h5 cannot be read")
    mail = compose_notice(notice, "corewatch@hospital.example", ("a@b.example", "c@d.example"))
    body = mail.get_content()

    assert mail["To"] == "a@b.example, c@d.example"
    assert "model x: weights.h5 cannot be read" in body
    assert "corewatch model install" in body
    assert RESEARCH_LABEL in body


@given(steps=st.lists(st.tuples(st.sampled_from(list(Readiness)), st.floats(0.1, 400)), max_size=30))
def test_whatever_happens_the_queue_is_open_exactly_while_the_model_is_ready(steps: list[tuple[Readiness, float]]) -> None:
    queue, now = Queue(), 0.0
    for state, wait in steps:
        now += wait
        queue.status.write(state, "?")
        queue.gate.step(now)
        moves = [move for move in queue.done if move in ("open", "close")]
        assert moves == ["open", "close"] * (len(moves) // 2) + ["open"] * (len(moves) % 2)
        assert (len(moves) % 2 == 1) == (state is Readiness.READY)


def test_what_a_child_writes_its_parent_reads() -> None:
    status = ModelStatus()
    child = multiprocessing.get_context("fork").Process(target=status.write, args=(Readiness.MISSING, "kein Modell für ü"))
    child.start()
    child.join(30)

    assert (status.readiness, status.problem) == (Readiness.MISSING, "kein Modell für ü")


def test_a_long_problem_is_cut_at_a_whole_character() -> None:
    status = ModelStatus()
    status.write(Readiness.MISSING, "ü" * 5000)

    assert len(status.problem) > 900
    assert set(status.problem) == {"ü"}


def test_a_child_with_its_model_stays() -> None:
    status, ended = ModelStatus(), threading.Event()

    assert ModelKeeper(status, lambda: None, end=lambda _code: ended.set()).load()
    assert status.readiness is Readiness.READY
    assert not ended.is_set()


def test_a_child_without_its_model_makes_room_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "RETRY_S", 0.0)
    status, ended = ModelStatus(), threading.Event()

    assert not ModelKeeper(status, lambda: "weights are gone", end=lambda _code: ended.set()).load()
    assert (status.readiness, status.problem) == (Readiness.MISSING, "weights are gone")
    assert ended.wait(30)


def test_a_loaded_model_that_fails_revalidation_is_missing() -> None:
    answers: list[str | None] = [None, None, "the device is broken"]
    keeper = ModelKeeper(ModelStatus(), lambda: answers.pop(0), end=lambda _code: None)
    assert keeper.load()
    assert keeper.has_model
    keeper.revalidate()
    assert keeper.has_model, "it was the case"
    keeper.revalidate()
    assert not keeper.has_model, "it was the device"


def test_a_process_without_its_model_ends_between_two_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "RETRY_S", 0.0)
    ended = threading.Event()
    keeper = ModelKeeper(ModelStatus(), lambda: "weights are gone", end=lambda _code: ended.set())
    signals.task_prerun.send(sender=None)

    keeper.load()
    assert not ended.wait(0.2)
    signals.task_postrun.send(sender=None)
    assert ended.wait(30)


def test_a_queue_that_could_not_be_opened_is_opened_by_the_next_step() -> None:
    """Celery's timer swallows what a step raises: the gate must not believe that the queue is open."""
    status, opened, errors = ModelStatus(), list[str](), [ConnectionError("the broker"), ConnectionError("again")]

    def open_queue() -> None:
        if errors:
            raise errors.pop()
        opened.append("open")

    def nothing(*_: object) -> None:
        return

    gate = QueueGate(
        status, open_queue=open_queue, close_queue=nothing, show_missing=nothing, show_recovered=nothing, alarm=nothing
    )
    status.write(Readiness.READY)
    for second in range(5):
        with suppress(ConnectionError):
            gate.step(float(second))
    assert opened == ["open"]
