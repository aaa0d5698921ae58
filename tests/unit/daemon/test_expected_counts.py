"""Expected number of instances: queried in the background, rate-limited, never blocking the assembler."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config.sources import Source
from corewatch.errors import RetryLater
from corewatch.states import CaseState
from daemon.intake.assembler import Assembler
from daemon.intake.expected_counts import BACKOFF, QUERY_INTERVAL, ExpectedCounts
from tests.support.net import wait_for
from tests.support.site import Site, open_site
from tests.support.spool import head

T0 = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
PACS = Source(name="pacs", ae_title="PACS", host="10.0.0.5", port=104)


class Oracle:
    """A PACS whose answers the test chooses."""

    def __init__(self) -> None:
        self.answer: int | Exception | None = 12
        self.asked: list[tuple[str, str, str]] = []
        self.open = threading.Event()
        self.open.set()

    def __call__(self, source: Source, study_uid: str, series_uid: str) -> int | None:
        self.asked.append((source.name, study_uid, series_uid))
        assert self.open.wait(20)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def oracle() -> Iterator[Oracle]:
    made = Oracle()
    yield made
    made.open.set()


@pytest.fixture
def counts(oracle: Oracle) -> Iterator[ExpectedCounts]:
    made = ExpectedCounts([PACS], oracle)
    yield made
    oracle.open.set()
    made.close()


def ask(counts: ExpectedCounts, *, have: int, stored: float, now: float, sender: str = "PACS") -> int | None:
    moments = {"last_stored_at": T0 + timedelta(seconds=stored), "now": T0 + timedelta(seconds=now)}
    return counts.of("1.9", "1.2", ["OTHER", sender], have=have, **moments)  # type: ignore[arg-type]  # both are moments


def settle(counts: ExpectedCounts) -> None:
    wait_for("an answer", counts.answered, 10, every=0.005)


def test_an_answer_is_used_at_the_next_decision(counts: ExpectedCounts, oracle: Oracle) -> None:
    assert ask(counts, have=3, stored=0, now=1) is None
    settle(counts)
    assert counts.answered() == [], "reported once"
    assert ask(counts, have=3, stored=0, now=1.1) == 12
    assert oracle.asked == [("pacs", "1.9", "1.2")]


def test_a_slow_pacs_delays_nothing(counts: ExpectedCounts, oracle: Oracle) -> None:
    oracle.open.clear()
    for n in range(50):
        assert ask(counts, have=3, stored=0, now=1 + n) is None
    assert counts.answered() == []
    oracle.open.set()
    settle(counts)
    assert len(oracle.asked) == 1
    assert ask(counts, have=3, stored=0, now=60) == 12


def test_a_pacs_that_is_still_receiving_is_queried_again(counts: ExpectedCounts, oracle: Oracle) -> None:
    """It knew of 12; 12 are here, and the last came after it was asked: there may be more."""
    ask(counts, have=3, stored=0, now=1)
    settle(counts)
    oracle.answer = 20
    assert ask(counts, have=12, stored=2, now=1 + QUERY_INTERVAL.total_seconds()) is None
    settle(counts)
    assert ask(counts, have=12, stored=2, now=5) == 20


def test_queries_are_rate_limited(counts: ExpectedCounts, oracle: Oracle) -> None:
    ask(counts, have=12, stored=0, now=1)
    settle(counts)
    for tenth in range(1, 20):
        assert ask(counts, have=12, stored=1 + tenth / 10, now=1 + tenth / 10) is None
    assert len(oracle.asked) == 1


def test_a_source_that_is_down_is_paused(counts: ExpectedCounts, oracle: Oracle) -> None:
    oracle.answer = RetryLater("down")
    pause = BACKOFF.longest_s
    for start in (0.0, pause + 2):
        ask(counts, have=3, stored=0, now=start)
        settle(counts)
        assert ask(counts, have=3, stored=0, now=start + 1) is None
        assert ask(counts, have=3, stored=0, now=start + pause - 1) is None
    assert len(oracle.asked) == 2
    oracle.answer = 12
    ask(counts, have=3, stored=0, now=3 * pause)
    settle(counts)
    assert ask(counts, have=3, stored=0, now=3 * pause) == 12


def test_only_the_sender_is_queried(counts: ExpectedCounts, oracle: Oracle) -> None:
    assert ask(counts, have=3, stored=0, now=1, sender="SCANNER") is None
    assert oracle.asked == []


def test_without_a_setting_no_source_is_queried() -> None:
    none = ExpectedCounts([PACS], None)
    assert not none.enabled
    assert ask(none, have=3, stored=0, now=1) is None


def test_series_that_are_no_longer_received_are_forgotten(counts: ExpectedCounts, oracle: Oracle) -> None:
    ask(counts, have=3, stored=0, now=1)
    settle(counts)
    counts.forget_all_but(set())
    ask(counts, have=3, stored=0, now=1.1)
    with suppress(AssertionError):
        wait_for("the question", lambda: len(oracle.asked) == 2, 5)
    assert len(oracle.asked) == 2


@pytest.fixture
def asking(tmp_path: Path, counts: ExpectedCounts) -> Iterator[tuple[Site, Callable[[float], None]]]:
    """A site whose assembler asks, and a step after which every answer is there."""
    with open_site(tmp_path) as site:
        site.assembler = Assembler(site.ledger, site.settings, expected=counts)
        yield site, site.step


def test_a_series_is_complete_while_its_association_is_open(
    asking: tuple[Site, Callable[[float], None]], counts: ExpectedCounts
) -> None:
    site, step = asking
    sender = site.sender()
    sender.send(head())
    step(0.1)
    step(1.1)  # the first look, which asks
    wait_for("the answer", lambda: any(q.future.done() for q in counts._queries.values()), 10, every=0.005)
    step(0.1)
    assert site.only().state is CaseState.QUEUED


def test_half_a_series_is_not_complete(asking: tuple[Site, Callable[[float], None]], counts: ExpectedCounts) -> None:
    """Released and without a gap, but the sender counts more instances."""
    site, step = asking
    first = site.sender()
    images = head()
    first.send(images[:10])
    step(0.1)
    step(1.1)
    wait_for("the answer", lambda: any(q.future.done() for q in counts._queries.values()), 10, every=0.005)
    first.release()
    for _ in range(8):
        step(1)
        assert site.only().state is CaseState.RECEIVING
    second = site.sender()
    second.send(images[10:])
    second.release()
    for _ in range(40):
        step(0.25)
        if site.only().state is CaseState.QUEUED:
            break
    assert site.only().state is CaseState.QUEUED
    assert len(site.ledger.cases.instance_paths(site.only())) == 12
