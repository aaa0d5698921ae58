"""Liveness of the worker program."""

from __future__ import annotations

from worker.liveness import ACCEPT_LIMIT_S, LOOP_LIMIT_S, Liveness


def test_a_worker_without_a_connection_works() -> None:
    liveness = Liveness()
    assert liveness.problem(1e6) is None
    liveness.tick(0.0, ["a"])
    liveness.disconnected()
    assert liveness.problem(1e6) is None


def test_an_event_loop_that_does_not_tick_hangs() -> None:
    liveness = Liveness()
    liveness.tick(100.0, ())
    assert liveness.problem(100.0 + LOOP_LIMIT_S - 1) is None
    assert "event loop" in str(liveness.problem(100.0 + LOOP_LIMIT_S))
    liveness.tick(100.0 + LOOP_LIMIT_S, ())
    assert liveness.problem(100.0 + LOOP_LIMIT_S) is None


def test_children_that_take_no_message_hang() -> None:
    liveness = Liveness()
    for now in range(int(ACCEPT_LIMIT_S)):
        liveness.tick(now, ["stuck", f"accepted-{now}"])
        assert liveness.problem(now) is None
    liveness.tick(ACCEPT_LIMIT_S, ["stuck"])
    assert "child processes" in str(liveness.problem(ACCEPT_LIMIT_S))
    liveness.tick(ACCEPT_LIMIT_S + 1, ["other"])  # it was accepted after all
    assert liveness.problem(ACCEPT_LIMIT_S + 1) is None
