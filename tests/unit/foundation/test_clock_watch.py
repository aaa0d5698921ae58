"""A clock that is set is noticed; one that is merely slow or fast is not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from foundation.clock_watch import NONE, TOLERANCE, ClockWatch

START = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)


def observed(steps: list[tuple[float, float]]) -> list[timedelta]:
    """What is observed while both clocks make these steps in seconds: time of day, and the one that nobody sets."""
    tick, now = 0.0, START
    watch = ClockWatch(lambda: tick)
    found = [watch.observe(now)]
    for of_day, steady in steps:
        now, tick = now + timedelta(seconds=of_day), tick + steady
        found.append(watch.observe(now))
    return found


def test_forward_and_back() -> None:
    hour = 3600.0
    jumps = observed([(1, 1), (hour + 1, 1), (1, 1), (1 - hour, 1), (1, 1)])
    assert jumps == [NONE, NONE, timedelta(hours=1), NONE, timedelta(hours=-1), NONE]


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(-1.9, 1.9)), max_size=20))
def test_drift_is_no_jump(steps: list[tuple[float, float]]) -> None:
    assert set(observed([(steady + drift, steady) for steady, drift in steps])) == {NONE}


@given(st.floats(0, 1e6), st.floats(2.1, 1e8), st.sampled_from([1, -1]))
def test_every_jump_is_seen_once_with_its_size(pause: float, size: float, way: int) -> None:
    _, jump, after = observed([(pause + way * size, pause), (1, 1)])
    assert abs(jump - timedelta(seconds=way * size)) < timedelta(seconds=0.01)
    assert abs(jump) > TOLERANCE
    assert after == NONE
