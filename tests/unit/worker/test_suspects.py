"""Servers that do not answer: when they are tried, and how many at once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from corewatch.errors import RetryLater
from tests.support.ledger import Clock
from worker.delivery.circuit_breaker import LONGEST_PAUSE_S, SHORTEST_PAUSE_S, TRIAL_S, Suspects


def may(suspects: Suspects, name: str, clock: Clock, *, first: bool = False) -> bool:
    try:
        suspects.begin(name, clock(), first=first)
    except RetryLater:
        return False
    return True


def test_who_answers_is_never_held_up(tmp_path: Path) -> None:
    suspects, clock = Suspects(tmp_path, 2), Clock()
    for _ in range(3):
        assert may(suspects, "pacs", clock)
        suspects.end("pacs", clock(), hung=False)
    assert list(tmp_path.iterdir()) == []


def test_a_suspect_is_tried_by_one_at_a_time_and_after_growing_pauses(tmp_path: Path) -> None:
    one, other, clock = Suspects(tmp_path, 4), Suspects(tmp_path, 4), Clock()  # two processes of a host
    assert may(one, "pacs", clock)
    assert may(other, "pacs", clock), "nobody knows yet"
    one.end("pacs", clock(), hung=True)
    assert not may(other, "pacs", clock)
    pauses = []
    for _ in range(8):
        passed = 0.0
        while not may(other, "pacs", clock):
            clock.forward(1)
            passed += 1
        assert not may(one, "pacs", clock), "the other one is at it"
        clock.forward(30)
        other.end("pacs", clock(), hung=True)
        pauses.append(passed)
    assert pauses[0] == SHORTEST_PAUSE_S
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_S
    clock.forward(LONGEST_PAUSE_S)
    assert may(one, "pacs", clock)
    one.end("pacs", clock(), hung=False)
    assert may(one, "pacs", clock)
    assert may(other, "pacs", clock), "it answers again"


@pytest.mark.parametrize(("processes", "at_once"), [(1, 1), (2, 1), (3, 2)])
def test_a_process_stays_free(processes: int, at_once: int, tmp_path: Path) -> None:
    suspects, clock = Suspects(tmp_path, processes), Clock()
    names = ["a", "b", "c"]
    for name in names:
        suspects.end(name, clock(), hung=True)
    clock.forward(SHORTEST_PAUSE_S)
    assert [may(suspects, name, clock) for name in names].count(True) == at_once
    assert may(suspects, "another", clock), "who is no suspect is tried"


def test_what_comes_first_waits_for_no_other(tmp_path: Path) -> None:
    suspects, clock = Suspects(tmp_path, 2), Clock()
    for name in ("pacs", "mail"):
        suspects.end(name, clock(), hung=True)
    assert not may(suspects, "mail", clock, first=True), "it is left alone for a while, too"
    clock.forward(SHORTEST_PAUSE_S)
    assert may(suspects, "pacs", clock)
    assert may(suspects, "mail", clock, first=True)
    assert not may(suspects, "mail", clock, first=True), "one at a time"


def test_a_trial_whose_worker_was_killed_and_a_clock_that_is_set_are_waited_for_no_longer(tmp_path: Path) -> None:
    suspects, clock = Suspects(tmp_path, 2), Clock()
    suspects.end("pacs", clock(), hung=True)
    clock.forward(SHORTEST_PAUSE_S)
    assert may(suspects, "pacs", clock)
    clock.forward(TRIAL_S - 1)
    assert not may(suspects, "pacs", clock)
    clock.forward(1)
    assert may(suspects, "pacs", clock)
    clock.now -= timedelta(days=1)
    assert may(suspects, "pacs", clock)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"pacs": 5}', '{"pacs": {"since": 1}}'])
def test_a_damaged_file_makes_no_suspects(damage: str, tmp_path: Path) -> None:
    suspects, clock = Suspects(tmp_path, 2), Clock()
    suspects.end("pacs", clock(), hung=True)
    (file,) = tmp_path.iterdir()
    file.write_text(damage)
    assert may(suspects, "pacs", clock)
    suspects.end("pacs", clock(), hung=True)
    assert not may(suspects, "pacs", clock)


def test_a_folder_that_cannot_be_written_holds_nothing_up(tmp_path: Path) -> None:
    suspects, clock = Suspects(tmp_path / "gone", 2), Clock()
    suspects.end("pacs", clock(), hung=True)
    assert may(suspects, "pacs", clock)
