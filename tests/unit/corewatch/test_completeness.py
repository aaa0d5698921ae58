"""When a series counts as complete."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corewatch.completeness import Complete, Transfer, Wait, decide, looks_whole, summarise
from corewatch.instance import Instance
from tests.support.instances import ENHANCED_CT, one, stack

START = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
IDLE, GRACE = 20.0, 1.0


def ask(instances: list[Instance], quiet_s: float, **signs: Any) -> Complete | Wait:
    known = {"open_arrivals": False, "aborted": False} | signs
    return decide(instances, last_stored_at=START, now=START + timedelta(seconds=quiet_s), idle_s=IDLE, grace_s=GRACE, **known)


def until(answer: Complete | Wait) -> float:
    assert isinstance(answer, Wait), answer
    return (answer.until - START).total_seconds()


def test_released_and_regular_waits_only_for_the_grace() -> None:
    assert until(ask(stack(), 0.2)) == GRACE
    assert isinstance(ask(stack(), GRACE), Complete)


def test_a_hole_waits_for_the_idle_time() -> None:
    series = stack()
    del series[70]
    assert until(ask(series, 5)) == IDLE
    assert isinstance(ask(series, IDLE), Complete)


@pytest.mark.parametrize("sign", ["open_arrivals", "aborted", "one_after_another"])
def test_each_objection_waits_for_the_idle_time(sign: str) -> None:
    assert until(ask(stack(), 5, **{sign: True})) == IDLE
    assert isinstance(ask(stack(), IDLE, **{sign: True}), Complete)


def test_fewer_than_the_sender_promised_waits_for_the_idle_time() -> None:
    part = stack(80, instances_in_series=160)
    assert until(ask(part, 5)) == IDLE


@pytest.mark.parametrize("sign", ["open_arrivals", "aborted", "one_after_another"])
def test_everything_that_was_promised_needs_no_release(sign: str) -> None:
    assert isinstance(ask(stack(160, instances_in_series=160), GRACE, **{sign: True}), Complete)


def test_as_many_as_promised_but_with_a_hole_is_not_everything() -> None:
    series = [*stack(159, instances_in_series=160)[:80], *stack(161, instances_in_series=160)[81:]]
    assert len(series) == 160
    assert until(ask(series, 5)) == IDLE


def test_the_largest_promise_counts() -> None:
    series = [*stack(80, instances_in_series=80)[:79], one(80, instances_in_series=160)]
    assert until(ask(series, 5)) == IDLE


def test_multi_frame_is_whole_by_itself_once_released() -> None:
    enhanced = [one(1, frames=320, sop_class_uid=ENHANCED_CT, position_lps=None)]
    assert looks_whole(enhanced)
    assert isinstance(ask(enhanced, GRACE), Complete)
    assert until(ask(enhanced, GRACE, open_arrivals=True)) == IDLE


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_to_be_a_stack_wait_for_the_idle_time(count: int) -> None:
    assert until(ask(stack(count), 5)) == IDLE


def test_a_grace_longer_than_the_idle_time_is_cut() -> None:
    answer = decide(stack(), last_stored_at=START, open_arrivals=False, aborted=False, now=START, idle_s=1.0, grace_s=60.0)
    assert until(answer) == 1.0


# the sum of the associations ------------------------------------------------------------------------------------------


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def transfer(start: float, end: float | None, **kind: bool) -> Transfer:
    return Transfer(at(start), None if end is None else at(end), **kind)


def signs(*transfers: Transfer) -> tuple[bool, bool, bool]:
    result = summarise(transfers)
    return result.open_arrivals, result.aborted, result.one_after_another


def test_one_released_association() -> None:
    assert signs(transfer(0, 10)) == (False, False, False)


def test_an_association_that_took_no_time_is_one_association() -> None:
    assert signs(transfer(5, 5)) == (False, False, False)


def test_one_open_association() -> None:
    assert signs(transfer(0, None)) == (True, False, False)


def test_an_open_association_of_the_same_sender_that_brought_nothing() -> None:
    assert signs(transfer(0, 10), transfer(11, None, carried=False)) == (True, False, False)


def test_parallel_associations_are_not_one_after_another() -> None:
    assert signs(transfer(0, 10), transfer(0.5, 9), transfer(1, 12)) == (False, False, False)


def test_an_association_per_image_is_one_after_another() -> None:
    assert signs(transfer(0, 1), transfer(1.1, 2), transfer(2.1, 3)) == (False, False, True)


def test_an_abort_counts_until_a_later_association_made_up_for_it() -> None:
    assert signs(transfer(0, 10, aborted=True)) == (False, True, False)
    assert signs(transfer(0, 10, aborted=True), transfer(12, 20)) == (False, False, False)
    assert signs(transfer(0, 10, aborted=True), transfer(12, None)) == (True, True, False)
    # released, but begun before the abort: the retry is still to come
    assert signs(transfer(0, 10, aborted=True), transfer(1, 20)) == (False, True, False)


def test_no_association_at_all_objects_to_nothing() -> None:
    assert signs() == (False, False, False)


@given(
    st.permutations(
        [
            transfer(0, 1),
            transfer(0.5, 3, aborted=True),
            transfer(4, None),
            transfer(2, 5),
            transfer(6, 7, carried=False),
        ]
    )
)
def test_the_order_of_associations_decides_nothing(transfers: list[Transfer]) -> None:
    assert signs(*transfers) == signs(*sorted(transfers, key=lambda p: p.opened_at))


# whole arrivals, simulated ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sent:
    at_s: float
    instance: Instance


@st.composite
def transmissions(draw: st.DrawFn) -> tuple[list[Sent], float, bool]:
    """A series sent in some order with some pauses, the end of its association, and whether that was an abort."""
    series = draw(st.permutations(stack(draw(st.integers(3, 14)))))
    gaps = draw(st.lists(st.floats(0, IDLE - 0.5), min_size=len(series), max_size=len(series)))
    clock, sent = 0.0, []
    for instance, gap in zip(series, gaps, strict=True):
        clock += gap
        sent.append(Sent(clock, instance))
    return sent, clock + draw(st.floats(0, 5)), draw(st.booleans())


def first_complete(sent: list[Sent], closed_s: float, aborted: bool) -> tuple[float, int]:
    """When a daemon that asks at every event takes the series as complete, and how many instances it has then."""
    clock = sent[0].at_s
    while True:
        here = [s for s in sent if s.at_s <= clock]
        closed = clock >= closed_s
        answer = decide(
            [s.instance for s in here],
            last_stored_at=at(max(s.at_s for s in here)),
            open_arrivals=not closed,
            aborted=closed and aborted,
            now=at(clock),
            idle_s=IDLE,
            grace_s=GRACE,
        )
        if isinstance(answer, Complete):
            return clock, len(here)
        assert answer.until > at(clock)
        # moments have microseconds: what is due may be asked for that much too early
        due = max((answer.until - START).total_seconds(), clock + 1e-5)
        clock = min(t for t in (due, closed_s, *(s.at_s for s in sent)) if t > clock)


@settings(max_examples=60, deadline=None)
@given(transmissions())
def test_never_half_a_series_and_always_an_end(transmission: tuple[list[Sent], float, bool]) -> None:
    sent, closed_s, aborted = transmission
    last = sent[-1].at_s
    when, count = first_complete(sent, closed_s, aborted)
    assert count == len(sent), "pauses are shorter than the idle time, so everything must be here"
    assert when <= max(closed_s, last) + IDLE + 0.5
    if not aborted:
        assert when <= max(closed_s, last + GRACE) + 0.5


@given(st.integers(4, 40), st.data(), st.floats(0, IDLE - 0.01))
def test_a_gap_is_never_complete_within_the_idle_time(count: int, data: st.DataObject, quiet: float) -> None:
    series = stack(count)
    for hole in data.draw(st.sets(st.integers(1, count - 2), min_size=1, max_size=count - 3)):
        series = [i for i in series if i.instance_number != hole + 1]
    assert isinstance(ask(series, quiet), Wait)


@given(st.integers(1, 30), st.booleans(), st.booleans(), st.booleans(), st.floats(IDLE, 1e6))
def test_after_the_idle_time_always_complete(count: int, is_open: bool, aborted: bool, split: bool, quiet: float) -> None:
    series = stack(count, instances_in_series=10_000)
    assert isinstance(ask(series, quiet, open_arrivals=is_open, aborted=aborted, one_after_another=split), Complete)


@given(st.permutations(stack(12)), st.booleans(), st.booleans(), st.floats(0, 30))
def test_the_order_of_arrival_decides_nothing(shuffled: list[Instance], is_open: bool, aborted: bool, quiet: float) -> None:
    assert ask(shuffled, quiet, open_arrivals=is_open, aborted=aborted) == ask(
        stack(12), quiet, open_arrivals=is_open, aborted=aborted
    )


@given(st.integers(3, 30), st.floats(0, 30), st.floats(0, 30), st.booleans())
def test_more_quiet_never_turns_complete_into_wait(count: int, a: float, b: float, is_open: bool) -> None:
    earlier, later = sorted((a, b))
    if isinstance(ask(stack(count), earlier, open_arrivals=is_open), Complete):
        assert isinstance(ask(stack(count), later, open_arrivals=is_open), Complete)


def test_a_clock_that_was_set_back_does_not_complete_a_series() -> None:
    assert isinstance(ask(stack(), -3600), Wait)


def test_instances_of_a_mixed_series_wait_for_the_idle_time() -> None:
    mixed = [*stack(20), replace(one(21), position_lps=None)]
    assert until(ask(mixed, 5)) == IDLE


# what the sender promised ---------------------------------------------------------------------------------------------


def test_what_a_c_find_answered_counts_like_the_number_in_the_images() -> None:
    assert until(ask(stack(80), 5, expected=160)) == IDLE
    assert isinstance(ask(stack(160), GRACE, expected=160, open_arrivals=True), Complete)
    # the larger one counts: the PACS may be receiving the series itself
    assert until(ask(stack(80, instances_in_series=160), 5, expected=80)) == IDLE
    assert until(ask(stack(80, instances_in_series=80), 5, expected=160)) == IDLE


def test_a_short_series_outwaits_the_idle_time_while_an_association_goes_on() -> None:
    short = {"expected": 160, "short_wait_s": 60.0}
    assert until(ask(stack(80), IDLE, open_arrivals=True, **short)) == 60.0
    assert isinstance(ask(stack(80), 60.0, open_arrivals=True, **short), Complete)
    assert isinstance(ask(stack(80), IDLE, **short), Complete), "nothing is open that could bring the rest"
    assert isinstance(ask(stack(160), IDLE, open_arrivals=True, **short), Complete), "nothing is missing"
    assert isinstance(ask(stack(80), IDLE, open_arrivals=True, expected=160, short_wait_s=1.0), Complete)


@given(st.integers(1, 30), st.integers(0, 60), st.booleans(), st.floats(0, 1e6), st.floats(0, 200))
def test_a_promise_never_makes_a_series_wait_for_ever(count: int, expected: int, is_open: bool, quiet: float, short: float) -> None:
    answer = ask(stack(count), quiet, open_arrivals=is_open, expected=expected, short_wait_s=short)
    if quiet >= max(IDLE, short):
        assert isinstance(answer, Complete)
    if isinstance(answer, Complete) and quiet < IDLE:
        assert count >= expected, "nothing that is short of its promise is complete before the idle time"
    if isinstance(answer, Wait):
        assert quiet - 1e-5 < until(answer) <= max(IDLE, short) + 1e-5, "moments have microseconds"


# interruptions -------------------------------------------------------------------------------------------------------------------


def test_silence_counts_from_the_moment_that_the_sender_could_be_heard() -> None:
    part = stack()
    del part[70]
    assert until(ask(part, 300, heard_since=at(295))) == 295 + IDLE
    assert isinstance(ask(part, 295 + IDLE, heard_since=at(295)), Complete)
    assert isinstance(ask(part, IDLE, heard_since=at(-50)), Complete), "an earlier outage changes nothing"


def test_an_interruption_waits_for_the_retry() -> None:
    how = {"aborted": True, "interrupted": True, "retry_wait_s": 120.0}
    assert until(ask(stack(), 60, **how)) == 120
    assert isinstance(ask(stack(), 120, **how), Complete)
    assert until(ask(stack(80, instances_in_series=160), 60, **how)) == 120
    assert isinstance(ask(stack(160, instances_in_series=160), GRACE, **how), Complete)


def test_a_released_series_needs_no_retry() -> None:
    assert isinstance(ask(stack(), GRACE, interrupted=True, retry_wait_s=120.0, heard_since=at(0.5)), Complete)


@pytest.mark.parametrize("quiet_s", [5, IDLE, 10_000])
def test_a_part_is_never_complete_while_nobody_listens(quiet_s: float) -> None:
    part = stack()
    del part[70]
    assert until(ask(part, quiet_s, deaf=True)) == quiet_s + IDLE


@given(
    quiet_s=st.floats(0, 1000),
    heard_s=st.floats(-100, 1000),
    retry_s=st.floats(0, 300),
    signs=st.fixed_dictionaries({name: st.booleans() for name in ("open_arrivals", "aborted", "one_after_another", "interrupted")}),
    gap=st.booleans(),
)
def test_an_outage_only_lengthens_the_wait(
    quiet_s: float, heard_s: float, retry_s: float, signs: dict[str, bool], gap: bool
) -> None:
    series = stack(60)
    if gap:
        del series[30]
    plain = ask(series, quiet_s, **(signs | {"interrupted": False}))
    outage = ask(series, quiet_s, **signs, heard_since=at(min(heard_s, quiet_s)), retry_wait_s=retry_s)
    if isinstance(outage, Complete):
        assert isinstance(plain, Complete)
    else:
        assert outage.until > at(quiet_s), "the next decision is in the future"


def passed(opened: float, closed: float | None, outcome: str = "released") -> Transfer:
    end = None if closed is None else at(closed)
    return Transfer(at(opened), end, aborted=outcome != "released", interrupted=outcome == "interrupted")


@pytest.mark.parametrize(
    ("transfers", "is_interrupted"),
    [
        ([passed(0, 5)], False),
        ([passed(0, 5, "aborted")], False),
        ([passed(0, 5, "interrupted")], True),
        ([passed(0, 5, "interrupted"), passed(30, None)], True),
        ([passed(0, 5, "interrupted"), passed(30, 40, "aborted")], True),
        ([passed(0, 5, "interrupted"), passed(30, 40)], False),
        ([passed(0, 50), passed(20, 30, "interrupted")], True),  # the other half of a parallel transfer is no retry
        ([passed(0, 5, "interrupted"), passed(1, 6, "interrupted"), passed(30, 40)], True),
        ([passed(0, 5, "interrupted"), passed(1, 6, "interrupted"), passed(30, 40), passed(31, 45)], False),
        ([passed(0, 5, "interrupted"), passed(6, 8, "interrupted"), passed(30, 40)], False),  # one sender, two crashes
    ],
)
def test_what_makes_up_for_an_interruption(transfers: list[Transfer], is_interrupted: bool) -> None:
    summary = summarise(transfers)
    assert summary.interrupted is is_interrupted
    assert summary.aborted or not is_interrupted
