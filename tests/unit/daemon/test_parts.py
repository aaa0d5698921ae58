"""Parts of the program, the folder's lock, and the dispatcher's patience."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

import daemon.main
from corewatch.errors import RetryLater
from corewatch.messages import Work
from corewatch.states import Stage
from daemon.main import HANGS_AFTER_S, Health
from daemon.periodic import Part
from daemon.upkeep.dispatcher import LONGEST_WAIT, Dispatcher
from ledger.database import Database, post
from ledger.outbox import Outbox
from tests.support.listener import captured_logs
from tests.support.net import wait_for
from tests.support.spool import TestClock

WAIT_S = 10.0


@pytest.fixture
def parts() -> Iterator[list[Part]]:
    made: list[Part] = []
    yield made
    for part in made:
        part.ask_to_stop()
    assert all(part.join(WAIT_S) for part in made)


def test_a_part_that_fails_goes_on_and_stops_no_other(parts: list[Part], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.periodic.FIRST_WAIT_S", 0.01)
    failures, other, recovered = [], threading.Event(), threading.Event()

    def fails(_now: datetime) -> None:
        if len(failures) < 3:
            failures.append(1)
            raise ValueError("as expected")
        recovered.set()

    parts += [Part("bad", fails, 0.01), Part("good", lambda _now: other.set(), 0.01)]
    for part in parts:
        part.start()
    assert recovered.wait(WAIT_S)
    assert other.wait(WAIT_S)


def test_a_part_that_hangs_or_has_ended_is_named_once(parts: list[Part]) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def hangs(_now: datetime) -> None:
        inside.set()
        assert go_on.wait(WAIT_S)

    parts += [Part("slow", hangs, 3600), Part("good", lambda _now: None, 3600)]
    watching = [True]
    health = Health(parts, lambda: watching[0])
    with captured_logs(daemon.main) as logs:
        assert not health.good(time.monotonic()), "none of them was started"
        assert [line["part"] for line in logs] == ["good", "slow"]
        for part in parts:
            part.start()
        assert inside.wait(WAIT_S)
        now = time.monotonic()
        assert health.good(now + HANGS_AFTER_S - 60)
        assert not health.good(now + HANGS_AFTER_S)
        assert not health.good(now + HANGS_AFTER_S + 60)
        assert [line["part"] for line in logs[2:]] == ["slow"]
        go_on.set()
        wait_for("the end of the step", lambda: health.good(now + HANGS_AFTER_S))
        watching[0] = False
        assert not health.good(now)


def test_a_failing_part_waits_longer_and_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_now: datetime) -> None:
        raise ValueError("as expected")

    part = Part("bad", fails, 1.0)
    pauses = [part._once() for _ in range(12)]
    assert pauses[:4] == [0.5, 1.0, 2.0, 4.0]
    assert pauses[-1] == 60.0


def test_a_part_wakes_the_next_one_when_it_has_done_something(parts: list[Part]) -> None:
    done, steps = threading.Event(), []

    def second(_now: datetime) -> None:
        steps.append(1)
        if len(steps) > 1:
            done.set()

    sleeper = Part("second", second, 3600)
    worked = threading.Event()
    first = Part("first", lambda _now: worked.is_set(), 0.01, after=sleeper)
    parts += [first, sleeper]
    sleeper.start()
    first.start()
    assert not done.is_set()
    worked.set()
    assert done.wait(WAIT_S)


def test_a_part_sleeps_no_longer_than_until_the_next_thing_is_due(parts: list[Part]) -> None:
    third = threading.Event()
    steps: list[datetime] = []

    def step(now: datetime) -> int:
        steps.append(now)
        if len(steps) == 3:
            third.set()
        return 0

    parts.append(Part("eager", step, 3600.0, due_in_s=lambda _now: 0.02))
    parts[-1].start()
    assert third.wait(20)


def test_a_part_stops_while_it_sleeps(parts: list[Part]) -> None:
    part = Part("sleeper", lambda _now: None, 3600)
    part.start()
    part.ask_to_stop()
    assert part.join(WAIT_S)


# the dispatcher --------------------------------------------------------------------------------------------------------------


class Broker:
    """Takes work, or does not."""

    def __init__(self) -> None:
        self.took: list[Work] = []
        self.asked = 0
        self.down = False
        self.poison: str | None = None

    def __call__(self, work: Work) -> None:
        self.asked += 1
        if self.down:
            raise RetryLater("the broker cannot be reached")
        if work.case_id == self.poison:
            raise TypeError("cannot be published")
        self.took.append(work)


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture
def database(tmp_path: Path, clock: TestClock) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path}/ledger.sqlite", clock)
    yield made
    made.close()


def put(database: Database, *case_ids: str) -> list[Work]:
    works = [Work(Stage.PREPARE, c) for c in case_ids]
    with database.transaction() as connection:
        for work in works:
            post(connection, database.clock(), work)
    return works


def test_what_the_broker_took_is_published_once(database: Database, clock: TestClock) -> None:
    broker = Broker()
    dispatcher = Dispatcher(Outbox(database), broker)
    works = put(database, "a", "b")
    assert dispatcher.step(clock.tick(1)) == 2
    assert dispatcher.step(clock.tick(1)) == 0
    assert broker.took == works


def test_a_broker_that_is_down_is_tried_again_with_patience_and_said_once(
    database: Database, clock: TestClock, capsys: pytest.CaptureFixture[str]
) -> None:
    broker = Broker()
    dispatcher = Dispatcher(Outbox(database), broker)
    works = put(database, "a", "b", "c")
    broker.down = True
    for _ in range(600):
        dispatcher.step(clock.tick(0.2))
    assert 8 <= broker.asked <= 16, "two minutes: 0.5, 1, 2, 4, 8, 15, 15, ... seconds"
    assert capsys.readouterr().out.count("does not take work") == 1
    broker.down = False
    dispatcher.step(clock.tick(LONGEST_WAIT.total_seconds()))
    assert broker.took == works
    assert "takes work again" in capsys.readouterr().out
    put(database, "d")
    broker.down = True
    dispatcher.step(clock.tick(0.2))
    assert "does not take work" in capsys.readouterr().out, "the next time is said anew"


def test_one_message_that_cannot_be_published_stops_no_other(database: Database, clock: TestClock) -> None:
    broker = Broker()
    dispatcher = Dispatcher(Outbox(database), broker)
    put(database, "a", "bad", "c")
    broker.poison = "bad"
    for _ in range(10):
        dispatcher.step(clock.tick(0.2))
    assert [w.case_id for w in broker.took] == ["a", "c"]
    assert broker.asked == 3
    broker.poison = None
    dispatcher.step(clock.tick(LONGEST_WAIT.total_seconds()))
    assert [w.case_id for w in broker.took] == ["a", "c", "bad"]


def test_a_crash_between_broker_and_ledger_publishes_twice_and_loses_nothing(
    database: Database, clock: TestClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker()
    works = put(database, "a")
    outbox = Outbox(database)
    monkeypatch.setattr(outbox, "mark_published", lambda _: (_ for _ in ()).throw(SystemExit))
    with pytest.raises(SystemExit):
        Dispatcher(outbox, broker).step(clock.tick(1))
    Dispatcher(Outbox(database), broker).step(clock.tick(1))
    assert broker.took == works * 2


def test_old_rows_are_forgotten_but_nothing_that_waits(database: Database, clock: TestClock) -> None:
    broker = Broker()
    dispatcher = Dispatcher(Outbox(database), broker)
    put(database, "a")
    dispatcher.step(clock.tick(1))
    put(database, "b")
    clock.tick(8 * 86400)
    assert dispatcher.purge(clock()) == 1
    dispatcher.step(clock())
    assert [w.case_id for w in broker.took] == ["a", "b"]
