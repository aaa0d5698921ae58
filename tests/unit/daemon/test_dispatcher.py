"""Dispatcher: retries, one message that cannot be published, a crash between broker and ledger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from corewatch.errors import RetryLater
from corewatch.messages import Work
from corewatch.states import Stage
from daemon.upkeep.dispatcher import BACKOFF, Dispatcher
from ledger.database import Database
from ledger.outbox import Outbox, post
from tests.support.spool import TestClock


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


def test_work_that_the_broker_took_is_published_once(database: Database, clock: TestClock) -> None:
    broker = Broker()
    dispatcher = Dispatcher(Outbox(database), broker)
    works = put(database, "a", "b")
    assert dispatcher.step(clock.tick(1)) == 2
    assert dispatcher.step(clock.tick(1)) == 0
    assert broker.took == works


def test_a_broker_that_is_down_is_retried_with_growing_pauses_and_logged_once(
    database: Database, clock: TestClock, capsys: pytest.CaptureFixture[str]
) -> None:
    broker = Broker()
    dispatcher = Dispatcher(Outbox(database), broker)
    works = put(database, "a", "b", "c")
    broker.down = True
    for _ in range(600):
        dispatcher.step(clock.tick(0.2))
    assert 8 <= broker.asked <= 16, "two minutes: 0.5, 1, 2, 4, 8, 15, 15, ... seconds"
    assert capsys.readouterr().out.count("broker_unavailable") == 1
    broker.down = False
    dispatcher.step(clock.tick(BACKOFF.longest_s))
    assert broker.took == works
    assert "broker_recovered" in capsys.readouterr().out
    put(database, "d")
    broker.down = True
    dispatcher.step(clock.tick(0.2))
    assert "broker_unavailable" in capsys.readouterr().out, "the next outage is logged again"


def test_one_message_that_cannot_be_published_does_not_stop_the_others(database: Database, clock: TestClock) -> None:
    broker = Broker()
    dispatcher = Dispatcher(Outbox(database), broker)
    put(database, "a", "bad", "c")
    broker.poison = "bad"
    for _ in range(10):
        dispatcher.step(clock.tick(0.2))
    assert [w.case_id for w in broker.took] == ["a", "c"]
    assert broker.asked == 3
    broker.poison = None
    dispatcher.step(clock.tick(BACKOFF.longest_s))
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


def test_old_published_rows_are_deleted_but_none_that_wait(database: Database, clock: TestClock) -> None:
    broker = Broker()
    dispatcher = Dispatcher(Outbox(database), broker)
    put(database, "a")
    dispatcher.step(clock.tick(1))
    put(database, "b")
    clock.tick(8 * 86400)
    assert dispatcher.purge(clock()) == 1
    dispatcher.step(clock())
    assert [w.case_id for w in broker.took] == ["a", "b"]
