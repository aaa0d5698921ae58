"""Interleaved acquisitions are separated by their instance numbers, and nothing else is."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from corewatch.acquisition_runs import acquisition_runs, interleaved

lengths = st.integers(6, 60)


def counted(positions: list[int], start: int = 1, step: int = 1) -> dict[int, int]:
    """Position -> number, counted in the given order."""
    return {position: start + step * n for n, position in enumerate(positions)}


def in_order(numbers: dict[int, int]) -> list[int | None]:
    return [numbers[position] for position in sorted(numbers)]


@given(st.integers(1, 200), st.booleans(), st.integers(0, 5000), st.integers(1, 9))
def test_one_sweep_is_one(count: int, down: bool, start: int, step: int) -> None:
    positions = list(range(count))
    numbers = in_order(counted(positions[::-1] if down else positions, start, step))
    assert len(acquisition_runs(numbers)) == 1
    assert not interleaved(numbers)


@given(lengths, st.integers(2, 4), st.lists(st.booleans(), min_size=4, max_size=4))
def test_sweeps_between_each_other_are_found(count: int, many: int, down: list[bool]) -> None:
    numbers: dict[int, int] = {}
    for n in range(many):
        positions = [k * many + n for k in range(count)]
        numbers |= counted(positions[::-1] if down[n] else positions, start=1 + n * count)
    assert interleaved(in_order(numbers))


@given(lengths, lengths, st.booleans(), st.booleans())
def test_sweeps_one_behind_the_other_are_one_stack(one: int, other: int, down: bool, upper_first: bool) -> None:
    low, high = list(range(one)), list(range(one, one + other))
    parts = [high, low] if upper_first else [low, high]
    numbers: dict[int, int] = {}
    for part in parts:
        numbers |= counted(part[::-1] if down else part, start=1 + len(numbers))
    assert not interleaved(in_order(numbers))


@given(st.integers(12, 200), st.randoms(use_true_random=False))
def test_numbers_in_no_order_mean_nothing(count: int, lot: random.Random) -> None:
    numbers: list[int | None] = list(range(count))
    lot.shuffle(numbers)
    assert not interleaved(numbers)


def test_missing_and_repeated_numbers_mean_nothing() -> None:
    assert acquisition_runs([1, None, 2]) == []
    assert acquisition_runs([1, 1, 2]) == []
    assert not interleaved([])
