"""Log once: one line when an outage begins, one when it is over."""

from __future__ import annotations

import doctest
import itertools
import threading

from hypothesis import given
from hypothesis import strategies as st

import foundation.outages
from foundation.outages import OutageTracker

EVENTS = st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60)


def test_the_examples_hold() -> None:
    assert doctest.testmod(foundation.outages).failed == 0


@given(events=EVENTS)
def test_only_changes_are_logged(events: list[tuple[str, bool]]) -> None:
    tracker, failing = OutageTracker(), set[str]()
    for key, fails in events:
        if fails:
            assert tracker.failed(key) is (key not in failing)
            failing.add(key)
        else:
            assert tracker.recovered(key) is (key in failing)
            failing.discard(key)


@given(looks=st.lists(st.sets(st.sampled_from("abcd")), max_size=20))
def test_looks_at_everything_give_the_differences(looks: list[set[str]]) -> None:
    tracker, before = OutageTracker(), set[str]()
    for failing in looks:
        changes = tracker.observe(failing)
        assert changes.begun == sorted(failing - before)
        assert changes.over == sorted(before - failing)
        before = failing


@given(events=st.lists(st.tuples(st.floats(0, 30), st.booleans()), max_size=80))
def test_an_outage_that_comes_and_goes_is_logged_once_per_interval(events: list[tuple[float, bool]]) -> None:
    tracker, now, logged, open_lines = OutageTracker(quiet_s=60), 0.0, list[float](), 0
    for pause, fails in events:
        now += pause
        if fails and tracker.failed("disk", now):
            logged.append(now)
            open_lines += 1
        elif not fails and tracker.recovered("disk"):
            open_lines -= 1
        assert open_lines in (0, 1), "each beginning that was logged has its end, and no other has"
    assert all(later - earlier >= 60 for earlier, later in itertools.pairwise(logged))


def test_a_quiet_outage_that_lasts_is_logged() -> None:
    tracker = OutageTracker(quiet_s=60)
    assert tracker.failed("disk", 0.0)
    assert tracker.recovered("disk")
    assert not tracker.failed("disk", 10.0)
    assert not tracker.recovered("disk")
    assert not tracker.failed("disk", 20.0)
    assert tracker.failed("disk", 60.0)
    assert tracker.recovered("disk")


def test_threads_log_one_line_together() -> None:
    tracker, logged, barrier = OutageTracker(), list[bool](), threading.Barrier(8)

    def fail() -> None:
        barrier.wait()
        logged.append(tracker.failed("disk"))

    threads = [threading.Thread(target=fail) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(logged) == [False] * 7 + [True]
