from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_listener.throttle import MOST_KEYS, LogThrottle, TokenBucket


@given(per_s=st.floats(0.5, 500), gaps=st.lists(st.floats(0, 3), min_size=1, max_size=60))
def test_no_more_than_allowed_over_any_time_and_a_second_besides(per_s: float, gaps: list[float]) -> None:
    """A sender that waits as it is asked to, and then takes its time."""
    pace, now, given_at = TokenBucket(per_s), 100.0, []
    for gap in gaps:
        now += pace.wait_s("pacs", now)
        given_at.append(now)
        now += gap
    for first in range(len(given_at)):
        for last in range(first, len(given_at)):
            allowed = per_s * (given_at[last] - given_at[first] + 1.0) + 1
            assert last - first + 1 <= allowed + 1e-6


def test_a_slow_sender_never_waits() -> None:
    pace = TokenBucket(10)
    assert [pace.wait_s("pacs", n * 0.11) for n in range(1, 50)] == [0.0] * 49


def test_who_waits_for_nobody_waits_longer_each_time() -> None:
    pace = TokenBucket(2)
    waits = [pace.wait_s("pacs", 50.0) for _ in range(5)]
    assert waits == pytest.approx([0.0, 0.0, 0.5, 1.0, 1.5])
    assert pace.wait_s("other", 50.0) == 0.0, "each peer counts for itself"


def test_peers_are_forgotten_at_last() -> None:
    pace = TokenBucket(1)
    for n in range(3 * MOST_KEYS):
        pace.wait_s(str(n), 1.0)
    assert len(pace._due) == MOST_KEYS


def test_a_line_is_said_once_and_then_tells_how_often_it_came() -> None:
    hush = LogThrottle(silence_s=60)
    assert [hush.says(t, "rejected", "10.0.0.7") for t in (0.0, 1.0, 59.0, 60.0, 61.0, 120.0)] == [0, None, None, 2, None, 1]
    assert hush.says(121.0, "rejected", "10.0.0.8") == 0


def test_a_flood_from_everywhere_is_no_flood_of_lines() -> None:
    hush = LogThrottle(silence_s=60, most=30)
    said = [hush.says(n / 1000, "rejected", f"10.0.{n // 256}.{n % 256}") for n in range(20_000)]
    assert sum(s is not None for s in said) == 30
    assert len(hush._lines) <= MOST_KEYS


@given(times=st.lists(st.tuples(st.floats(0, 1000), st.integers(0, 3)), max_size=200))
def test_nothing_is_held_back_uncounted(times: list[tuple[float, int]]) -> None:
    hush = LogThrottle(silence_s=10, most=10**6)
    counted: dict[int, int] = {}
    for now, line in sorted(times):
        held_back = hush.says(now, str(line))
        if held_back is not None:
            counted[line] = counted.get(line, 0) + 1 + held_back
    for line, entries in counted.items():
        came = sum(1 for _, other in times if other == line)
        assert entries + hush._lines[(str(line),)].held_back == came
