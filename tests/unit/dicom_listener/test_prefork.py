"""Which of several processes has fallen silent: a pure decision over memory that they share."""

from __future__ import annotations

import os

from dicom_listener.prefork import Heartbeats


def test_a_process_without_heartbeat_is_named() -> None:
    heartbeats = Heartbeats(3, longest_s=30)
    for slot in range(3):
        heartbeats.beat(slot, 1000)
    for now in range(1001, 1031):
        heartbeats.beat(1, now)
        assert heartbeats.silent(now) == []
    assert heartbeats.silent(1031) == [0, 2]
    heartbeats.beat(0, 1031)
    assert heartbeats.silent(1032) == [2]


def test_a_parent_that_was_suspended_starts_counting_again() -> None:
    heartbeats = Heartbeats(1, longest_s=30)
    heartbeats.beat(0, 1000)
    assert heartbeats.silent(1001) == []
    assert heartbeats.silent(5000) == [], "a suspended machine"
    for now in range(5001, 5031):
        assert heartbeats.silent(now) == []
    assert heartbeats.silent(5031) == [0]


def test_a_heartbeat_crosses_processes() -> None:
    heartbeats = Heartbeats(2, longest_s=30)
    heartbeats.beat(0, 1000)
    heartbeats.beat(1, 1000)
    pid = os.fork()
    if not pid:
        heartbeats.beat(1, 1020)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert heartbeats.silent(1031) == [0]
