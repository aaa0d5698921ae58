"""Back-off: grows, has a limit, and a clock that is set makes no wait longer than that limit."""

from __future__ import annotations

import doctest
import math
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

import foundation.backoff
from foundation.backoff import Backoff, RetryTimer, is_waiting

FIRST = st.floats(0.1, 60)
LONGEST = st.floats(60, 3600)
START = datetime(2026, 11, 30, 12, tzinfo=UTC)


def test_the_examples_hold() -> None:
    assert doctest.testmod(foundation.backoff).failed == 0


@given(first=FIRST, longest=LONGEST, failures=st.integers(1, 10_000))
def test_waits_double_up_to_the_longest(first: float, longest: float, failures: int) -> None:
    backoff = Backoff(first, longest)
    now, then = backoff.delay_s(failures), backoff.delay_s(failures + 1)
    assert first <= now <= longest
    assert then == min(2 * now, longest)
    assert backoff.delay_s(1) == first


def test_years_of_failures_overflow_nothing() -> None:
    assert Backoff(1.0).delay_s(10**9) < math.inf


@given(first=FIRST, longest=LONGEST, attempts=st.integers(1, 40))
def test_waits_by_elapsed_time_double_too(first: float, longest: float, attempts: int) -> None:
    backoff, tried_s = Backoff(first, longest), 0.0
    for _ in range(attempts):
        wait = backoff.delay_after_s(tried_s)
        assert wait == min(max(first, tried_s), longest)
        tried_s += wait
    assert backoff.delay_after_s(-3600.0) == first, "a clock that was set back"


@given(steps=st.lists(st.tuples(st.booleans(), st.floats(0, 400)), max_size=40))
def test_a_timer_waits_after_each_failure_and_not_after_a_success(steps: list[tuple[bool, float]]) -> None:
    timer, backoff, failures, now, due = RetryTimer(Backoff(5, 300)), Backoff(5, 300), 0, 1000.0, 0.0
    for works, pause in steps:
        now += pause
        assert timer.is_due(now) is (now >= due)
        if works:
            assert timer.succeeded() == failures
            failures, due = 0, 0.0
            assert timer.failing_for_s(now) == 0.0
        else:
            failures += 1
            assert timer.failed(now) == backoff.delay_s(failures)
            due = now + backoff.delay_s(failures)
        assert timer.failures == failures


def test_an_outage_lasts_since_its_first_failure() -> None:
    timer = RetryTimer(Backoff.constant(5))
    for minute in range(3):
        assert timer.failed(START + timedelta(minutes=minute)) == 5
    assert timer.failing_for_s(START + timedelta(minutes=4)) == 240


@given(jump_s=st.integers(-(10**6), 10**6), failures=st.integers(1, 12))
def test_no_wait_is_longer_than_the_longest_when_the_clock_is_set(jump_s: int, failures: int) -> None:
    timer = RetryTimer(Backoff(5, 60))
    for _ in range(failures):
        delay_s = timer.failed(START)
    reading = START + timedelta(seconds=jump_s)
    if timer.is_due(reading):
        return
    assert delay_s - 60 <= jump_s < delay_s
    assert timer.is_due(reading + timedelta(seconds=60))


def test_a_wait_is_over_at_its_end() -> None:
    assert is_waiting(10.0, 9.9, 5.0)
    assert not is_waiting(10.0, 10.0, 5.0)
    assert is_waiting(10.0, 5.0, 5.0)
    assert not is_waiting(10.0, 4.9, 5.0), "the clock was set back"
    assert is_waiting(START + timedelta(seconds=1), START, 5.0)


@given(now=st.floats(1.6e9, 2.0e9), longest=LONGEST)
def test_rounding_ends_no_wait_at_once(now: float, longest: float) -> None:
    assert is_waiting(now + longest, now, longest)
    timer = RetryTimer(Backoff.constant(longest))
    timer.failed(now)
    assert not timer.is_due(now)
