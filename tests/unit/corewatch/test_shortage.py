"""Each shortage of disk space is reported once."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from config.settings import Settings
from corewatch.clock import utc_now
from corewatch.shortage import RECOVERY_S, SHORT_MARGIN, Shortage, enough_from, short_below
from corewatch.units import GIB, MIB
from daemon.upkeep.disk import MAIL_BACKOFF, DiskWatch

RESERVE = 2 * GIB
RETRY_S = MAIL_BACKOFF.first_s
LITTLE, BETWEEN, ENOUGH = short_below(RESERVE) - 1, short_below(RESERVE), enough_from(RESERVE)
LOOKS = st.lists(
    st.tuples(st.sampled_from([0, RESERVE, LITTLE, BETWEEN, ENOUGH - 1, ENOUGH, 99 * GIB]), st.floats(0.1, 2 * RECOVERY_S)),
    max_size=60,
)


def told_at(looks: list[tuple[int, float]], reserve: int = RESERVE) -> list[int]:
    """Checks at which a mail is sent, if sending always succeeds."""
    state, now, told = Shortage(), 0.0, []
    for number, (free, wait) in enumerate(looks):
        now += wait
        state = state.observe(free, reserve, now)
        if state.must_notify:
            told.append(number)
            state = state.after_notifying()
    return told


@given(LOOKS)
@example([(LITTLE, 1), (ENOUGH, 1), (ENOUGH, RECOVERY_S), (LITTLE, 1)])
@example([(LITTLE, 1), (ENOUGH, 1), (ENOUGH, RECOVERY_S - 1), (LITTLE, 1)])
def test_between_two_mails_lies_enough_for_long_enough(looks: list[tuple[int, float]]) -> None:
    told = told_at(looks)
    short = [number for number, (free, _) in enumerate(looks) if free < short_below(RESERVE)]
    assert told[:1] == short[:1], "the first shortage is reported at once"
    for first, second in pairwise(short):
        between = looks[first + 1 : second]
        # the longest time for which every look found enough
        longest = run = 0.0
        unbroken = False
        for free, wait in between:
            if free >= enough_from(RESERVE):
                run = run + wait if unbroken else 0.0
                unbroken, longest = True, max(longest, run)
            else:
                unbroken = False
        if abs(longest - RECOVERY_S) > 1e-6:  # sums of floats
            assert (second in told) == (longest > RECOVERY_S)


@given(st.integers(0, 100 * GIB), st.integers(0, 8 * MIB))
def test_what_the_listener_refuses_counts_as_short(reserve: int, asked: int) -> None:
    """It refuses when what it asks for would touch the reserve, so free space comes to rest above it."""
    assert told_at([(reserve + asked - 1, 1.0)], reserve) == [0]
    assert asked < SHORT_MARGIN
    assert short_below(reserve) < enough_from(reserve)


@given(LOOKS, st.integers(0, 5))
def test_until_somebody_is_reached_it_is_tried_again(looks: list[tuple[int, float]], deaf: int) -> None:
    state, now, tries = Shortage(), 0.0, 0
    for free, wait in looks:
        now += wait
        before, state = state, state.observe(free, RESERVE, now)
        if state.must_notify:
            tries += 1
            assert state.short
            if tries > deaf:
                state = state.after_notifying()
        assert not (state.notified and not state.short), "a shortage that is over is forgotten"
        assert before.short or not state.notified or tries > deaf


def test_the_watch_waits_before_it_asks_a_mail_server_again(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    now, answers, told = [0.0], [False, True, True], []

    def tell(problem: str) -> bool:
        told.append(problem)
        return answers[len(told) - 1]

    free = [GIB]
    watch = DiskWatch(settings, tell, free=lambda _: free[0], clock=lambda: now[0])
    for now[0] in (0.0, RETRY_S - 1, RETRY_S, RETRY_S * 2, RETRY_S * 3):
        assert watch.step(utc_now())
    assert told == ["1.00 GiB are free; 2.00 GiB are kept free (listener.reserve_gib)."] * 2
    free[0] = 50 * GIB
    for now[0] in (1000.0, 1000.0 + RECOVERY_S):
        short = watch.step(utc_now())
    assert not short
    free[0] = 0
    now[0] += 1
    assert watch.step(utc_now())
    assert len(told) == 3
