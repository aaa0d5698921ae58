"""Components of the daemon: order of start and stop, periodic threads, health."""

from __future__ import annotations

import graphlib
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime

import pytest
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

import daemon.components
from daemon.components import HUNG_AFTER_S, Components, PeriodicThread
from foundation.backoff import Backoff
from tests.support.listener import captured_logs
from tests.support.net import wait_for

WAIT_S = 10.0


@pytest.fixture
def threads() -> Iterator[list[PeriodicThread]]:
    made: list[PeriodicThread] = []
    yield made
    for thread in made:
        thread.request_stop()
    assert all(thread.join(WAIT_S) for thread in made)


class Recorder:
    """A component that writes down when it is started and stopped."""

    def __init__(self, name: str, done: list[str], *requires: str, fails: bool = False) -> None:
        self.name, self.requires = name, requires
        self._done, self._fails = done, fails

    def start(self) -> None:
        if self._fails:
            raise OSError("cannot start")
        self._done.append(f"start {self.name}")

    def request_stop(self) -> None:
        self._done.append(f"stop {self.name}")

    def join(self, _timeout_s: float) -> bool:
        return self.name != "hung"

    def is_working(self, _now_s: float) -> bool:
        return True


def started_and_stopped(done: Sequence[str]) -> tuple[list[str], list[str]]:
    return [d[6:] for d in done if d.startswith("start ")], [d[5:] for d in done if d.startswith("stop ")]


def test_components_start_after_what_they_require_and_stop_before_it() -> None:
    done: list[str] = []
    components = Components(
        [Recorder("watch", done, "assembler"), Recorder("assembler", done, "dispatcher"), Recorder("dispatcher", done)]
    )
    components.start()
    components.stop()
    assert started_and_stopped(done) == (["dispatcher", "assembler", "watch"], ["watch", "assembler", "dispatcher"])


def test_only_what_was_started_is_stopped() -> None:
    done: list[str] = []
    components = Components([Recorder("watch", done, "assembler", fails=True), Recorder("assembler", done)])
    with pytest.raises(OSError, match="cannot start"):
        components.start()
    components.stop()
    assert started_and_stopped(done) == (["assembler"], ["assembler"])


def test_a_component_that_does_not_end_is_logged_and_delays_no_other() -> None:
    done: list[str] = []
    components = Components([Recorder("hung", done, "other"), Recorder("other", done)])
    components.start()
    with captured_logs(daemon.components) as logs:
        components.stop()
    assert [(line["event"], line["component"]) for line in logs] == [("component_not_stopped", "hung")]
    assert started_and_stopped(done)[1] == ["hung", "other"]


@pytest.mark.parametrize(("requires", "error"), [("b", graphlib.CycleError), ("c", KeyError)])
def test_requirements_that_cannot_be_met_are_an_error(requires: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        Components([Recorder("a", [], requires), Recorder("b", [], "a")])


def test_a_thread_that_fails_goes_on_and_stops_no_other(threads: list[PeriodicThread], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.components.BACKOFF", Backoff(0.01, 60))
    failures: list[int] = []
    other, recovered = threading.Event(), threading.Event()

    def fails(_now: datetime) -> None:
        if len(failures) < 3:
            failures.append(1)
            raise ValueError("as expected")
        recovered.set()

    threads += [PeriodicThread("bad", fails, 0.01), PeriodicThread("good", lambda _now: other.set(), 0.01)]
    for thread in threads:
        thread.start()
    assert recovered.wait(WAIT_S)
    assert other.wait(WAIT_S)


def test_a_thread_that_hangs_or_has_ended_is_logged_once(threads: list[PeriodicThread]) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def hangs(_now: datetime) -> None:
        inside.set()
        assert go_on.wait(WAIT_S)

    threads += [PeriodicThread("slow", hangs, 3600), PeriodicThread("good", lambda _now: None, 3600)]
    components = Components(threads)
    with captured_logs(daemon.components) as logs:
        assert not components.are_working(time.monotonic()), "none of them was started"
        assert [line["component"] for line in logs] == ["good", "slow"]
        components.start()
        assert inside.wait(WAIT_S)
        now = time.monotonic()
        assert components.are_working(now + HUNG_AFTER_S - 60)
        assert not components.are_working(now + HUNG_AFTER_S)
        assert not components.are_working(now + HUNG_AFTER_S + 60)
        assert [line["component"] for line in logs[2:]] == ["slow"]
        go_on.set()
        wait_for("the end of the step", lambda: components.are_working(now + HUNG_AFTER_S))
        components.stop()
        assert not components.are_working(now)


def test_a_failing_thread_waits_longer_and_longer() -> None:
    def fails(_now: datetime) -> None:
        raise ValueError("as expected")

    thread = PeriodicThread("bad", fails, 1.0)
    pauses = [thread._step_once() for _ in range(12)]
    assert pauses[:4] == [0.5, 1.0, 2.0, 4.0]
    assert pauses[-1] == 60.0


def test_a_thread_wakes_the_next_one_when_it_has_done_something(threads: list[PeriodicThread]) -> None:
    done, steps = threading.Event(), []

    def second(_now: datetime) -> None:
        steps.append(1)
        if len(steps) > 1:
            done.set()

    sleeper = PeriodicThread("second", second, 3600)
    worked = threading.Event()
    first = PeriodicThread("first", lambda _now: worked.is_set(), 0.01, wakes=sleeper)
    assert first.requires == ("second",)
    threads += [first, sleeper]
    sleeper.start()
    first.start()
    assert not done.is_set()
    worked.set()
    assert done.wait(WAIT_S)


def test_a_thread_sleeps_no_longer_than_until_the_next_thing_is_due(threads: list[PeriodicThread]) -> None:
    third = threading.Event()
    steps: list[datetime] = []

    def step(now: datetime) -> int:
        steps.append(now)
        if len(steps) == 3:
            third.set()
        return 0

    threads.append(PeriodicThread("eager", step, 3600.0, due_in_s=lambda _now: 0.02))
    threads[-1].start()
    assert third.wait(20)


def test_a_thread_stops_while_it_sleeps() -> None:
    thread = PeriodicThread("sleeper", lambda _now: None, 3600)
    thread.start()
    thread.request_stop()
    assert thread.join(WAIT_S)


def test_a_database_that_is_away_is_one_line_whatever_the_number_of_components() -> None:
    away = {"now": True}

    def step(_now: datetime) -> bool:
        if away["now"]:
            raise OperationalError("SELECT 1", None, ConnectionRefusedError("refused"))
        return True

    threads = [PeriodicThread(f"part{number}", step, 60.0) for number in range(5)]
    with capture_logs() as lines:
        for _ in range(3):
            for thread in threads:
                thread._step_once()
        away["now"] = False
        for thread in threads:
            assert thread._step_once() == 60.0
    assert [line["event"] for line in lines] == ["database_unavailable", "database_recovered"]
    assert lines[0]["why"] == "refused"
