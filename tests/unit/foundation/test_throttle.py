"""Rate limits: over any time at most what is allowed, and nothing is held back uncounted."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

import foundation.throttle
from foundation.throttle import MAX_KEYS, LogThrottle, TokenBucket


def test_the_examples_hold() -> None:
    assert doctest.testmod(foundation.throttle).failed == 0


@given(per_s=st.floats(0.5, 500), gaps=st.lists(st.floats(0, 3), min_size=1, max_size=60))
def test_no_more_than_allowed_over_any_time_and_a_second_besides(per_s: float, gaps: list[float]) -> None:
    """A sender that waits as it is asked to, and then takes its time."""
    bucket, now, given_at = TokenBucket(per_s), 100.0, []
    for gap in gaps:
        now += bucket.reserve("pacs", now)
        given_at.append(now)
        now += gap
    for first in range(len(given_at)):
        for last in range(first, len(given_at)):
            allowed = per_s * (given_at[last] - given_at[first] + 1.0) + 1
            assert last - first + 1 <= allowed + 1e-6


def test_a_slow_sender_never_waits() -> None:
    bucket = TokenBucket(10)
    assert [bucket.reserve("pacs", n * 0.11) for n in range(1, 50)] == [0.0] * 49


def test_who_waits_for_nobody_waits_longer_each_time() -> None:
    bucket = TokenBucket(2)
    waits = [bucket.reserve("pacs", 50.0) for _ in range(5)]
    assert waits == pytest.approx([0.0, 0.0, 0.5, 1.0, 1.5])
    assert bucket.reserve("other", 50.0) == 0.0, "each peer counts for itself"


def test_peers_are_forgotten_at_last() -> None:
    bucket = TokenBucket(1)
    for n in range(3 * MAX_KEYS):
        bucket.reserve(str(n), 1.0)
    assert len(bucket._buckets) == MAX_KEYS


@given(rate=st.floats(0.1, 50), burst=st.integers(1, 40), gaps=st.lists(st.floats(0, 5), min_size=1, max_size=80))
def test_requests_over_the_rate_are_refused(rate: float, burst: int, gaps: list[float]) -> None:
    bucket, now, granted = TokenBucket(rate, burst), 10.0, list[float]()
    for gap in gaps:
        now += gap
        if bucket.take("peer", now):
            granted.append(now)
    for first in range(len(granted)):
        for last in range(first, len(granted)):
            assert last - first + 1 <= burst + rate * (granted[last] - granted[first]) + 1e-6


def test_a_full_bucket_grants_its_burst_at_once() -> None:
    bucket = TokenBucket(per_s=0.5, burst=3)
    assert [bucket.take("a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take("a", 1.0)
    assert bucket.take("a", 3.0)
    assert bucket.take("b", 3.0)
    assert not bucket.take("a", 2.0), "a clock that goes back fills nothing"


def test_a_line_is_said_once_and_then_tells_how_often_it_came() -> None:
    throttle = LogThrottle(interval_s=60)
    assert [throttle.held_back(t, "rejected", "10.0.0.7") for t in (0.0, 1.0, 59.0, 60.0, 61.0, 120.0)] == [
        0,
        None,
        None,
        2,
        None,
        1,
    ]
    assert throttle.held_back(121.0, "rejected", "10.0.0.8") == 0


def test_a_flood_from_everywhere_is_no_flood_of_lines() -> None:
    throttle = LogThrottle(interval_s=60, most=30)
    said = [throttle.held_back(n / 1000, "rejected", f"10.0.{n // 256}.{n % 256}") for n in range(20_000)]
    assert sum(s is not None for s in said) == 30
    assert len(throttle._lines) <= MAX_KEYS


@given(times=st.lists(st.tuples(st.floats(0, 1000), st.integers(0, 3)), max_size=200))
def test_nothing_is_held_back_uncounted(times: list[tuple[float, int]]) -> None:
    throttle = LogThrottle(interval_s=10, most=10**6)
    counted: dict[int, int] = {}
    for now, line in sorted(times):
        held_back = throttle.held_back(now, str(line))
        if held_back is not None:
            counted[line] = counted.get(line, 0) + 1 + held_back
    for line, entries in counted.items():
        came = sum(1 for _, other in times if other == line)
        assert entries + throttle._lines[(str(line),)].held_back == came
