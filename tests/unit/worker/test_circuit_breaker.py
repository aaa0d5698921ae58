"""Circuit breaker per server: when an attempt is made, and how many half-open attempts at once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from corewatch.errors import RetryLater
from tests.support.ledger import Clock
from worker.delivery.circuit_breaker import BACKOFF, HALF_OPEN_LIMIT_S, CircuitBreaker


def may_try(breaker: CircuitBreaker, name: str, clock: Clock, *, unlimited: bool = False) -> bool:
    try:
        breaker.before_attempt(name, clock(), unlimited=unlimited)
    except RetryLater:
        return False
    return True


def test_a_server_that_answers_has_no_circuit(tmp_path: Path) -> None:
    breaker, clock = CircuitBreaker(tmp_path, 2), Clock()
    for _ in range(3):
        assert may_try(breaker, "pacs", clock)
        breaker.after_attempt("pacs", clock(), hung=False)
    assert list(tmp_path.iterdir()) == []


def test_half_open_attempts_are_made_one_at_a_time_after_growing_pauses(tmp_path: Path) -> None:
    one, other, clock = CircuitBreaker(tmp_path, 4), CircuitBreaker(tmp_path, 4), Clock()  # two processes of a host
    assert may_try(one, "pacs", clock)
    assert may_try(other, "pacs", clock), "no attempt has ended yet"
    one.after_attempt("pacs", clock(), hung=True)
    assert not may_try(other, "pacs", clock)
    pauses = []
    for _ in range(8):
        passed = 0.0
        while not may_try(other, "pacs", clock):
            clock.forward(1)
            passed += 1
        assert not may_try(one, "pacs", clock), "the other process is making the half-open attempt"
        clock.forward(30)
        other.after_attempt("pacs", clock(), hung=True)
        pauses.append(passed)
    assert pauses[0] == BACKOFF.first_s
    assert pauses == sorted(pauses)
    assert pauses[-1] == BACKOFF.longest_s
    clock.forward(BACKOFF.longest_s)
    assert may_try(one, "pacs", clock)
    one.after_attempt("pacs", clock(), hung=False)
    assert may_try(one, "pacs", clock)
    assert may_try(other, "pacs", clock), "it answers again"


@pytest.mark.parametrize(("processes", "at_once"), [(1, 1), (2, 1), (3, 2)])
def test_a_process_stays_free(processes: int, at_once: int, tmp_path: Path) -> None:
    breaker, clock = CircuitBreaker(tmp_path, processes), Clock()
    names = ["a", "b", "c"]
    for name in names:
        breaker.after_attempt(name, clock(), hung=True)
    clock.forward(BACKOFF.first_s)
    assert [may_try(breaker, name, clock) for name in names].count(True) == at_once
    assert may_try(breaker, "another", clock), "a server without a circuit is tried"


def test_mail_waits_for_no_half_open_attempt_of_another_server(tmp_path: Path) -> None:
    breaker, clock = CircuitBreaker(tmp_path, 2), Clock()
    for name in ("pacs", "mail"):
        breaker.after_attempt(name, clock(), hung=True)
    assert not may_try(breaker, "mail", clock, unlimited=True), "its circuit is open, too"
    clock.forward(BACKOFF.first_s)
    assert may_try(breaker, "pacs", clock)
    assert may_try(breaker, "mail", clock, unlimited=True)
    assert not may_try(breaker, "mail", clock, unlimited=True), "one at a time"


def test_a_killed_half_open_attempt_and_a_clock_set_back_do_not_keep_the_circuit_open(tmp_path: Path) -> None:
    breaker, clock = CircuitBreaker(tmp_path, 2), Clock()
    breaker.after_attempt("pacs", clock(), hung=True)
    clock.forward(BACKOFF.first_s)
    assert may_try(breaker, "pacs", clock)
    clock.forward(HALF_OPEN_LIMIT_S - 1)
    assert not may_try(breaker, "pacs", clock)
    clock.forward(1)
    assert may_try(breaker, "pacs", clock)
    clock.now -= timedelta(days=1)
    assert may_try(breaker, "pacs", clock)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"pacs": 5}', '{"pacs": {"since": 1}}'])
def test_a_damaged_file_counts_as_empty(damage: str, tmp_path: Path) -> None:
    breaker, clock = CircuitBreaker(tmp_path, 2), Clock()
    breaker.after_attempt("pacs", clock(), hung=True)
    (file,) = tmp_path.iterdir()
    file.write_text(damage)
    assert may_try(breaker, "pacs", clock)
    breaker.after_attempt("pacs", clock(), hung=True)
    assert not may_try(breaker, "pacs", clock)


def test_without_its_folder_every_circuit_is_closed(tmp_path: Path) -> None:
    breaker, clock = CircuitBreaker(tmp_path / "gone", 2), Clock()
    breaker.after_attempt("pacs", clock(), hung=True)
    assert may_try(breaker, "pacs", clock)
