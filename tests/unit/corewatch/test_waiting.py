"""Cases that wait for too long: ages, and the alarm."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from corewatch.states import CaseState
from corewatch.waiting import CALM_PART, WaitAlarm, WaitingCase, oldest_of_each_state

NOW = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
LIMIT = timedelta(minutes=8)


def waiting(minutes: float, state: CaseState = CaseState.QUEUED, name: str = "a") -> WaitingCase:
    return WaitingCase(name, state, NOW - timedelta(minutes=minutes))


def test_the_oldest_case_of_each_state_counts() -> None:
    waits = oldest_of_each_state([waiting(1), waiting(9, name="b"), waiting(3, CaseState.PREPARED)], NOW)
    assert list(waits) == [CaseState.QUEUED, CaseState.PREPARED]
    assert (waits[CaseState.QUEUED].count, waits[CaseState.QUEUED].oldest.case_id) == (2, "b")
    assert waits[CaseState.QUEUED].age == timedelta(minutes=9)


def test_a_case_from_the_future_has_no_age() -> None:
    [wait] = oldest_of_each_state([waiting(-5)], NOW).values()
    assert wait.age == timedelta()


@given(st.lists(st.floats(0, 60), max_size=40))
def test_an_alarm_begins_and_ends_by_turns(ages: list[float]) -> None:
    alarm, active = WaitAlarm(LIMIT), False
    for age in ages:
        begun, over = alarm.observe(oldest_of_each_state([waiting(age)], NOW))
        assert bool(begun) == (not active and timedelta(minutes=age) >= LIMIT)
        assert bool(over) == (active and timedelta(minutes=age) < LIMIT / CALM_PART)
        active = (active or bool(begun)) and not over
    assert bool(alarm.observe({}).over) == active
