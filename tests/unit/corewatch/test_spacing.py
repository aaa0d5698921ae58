"""Blocks of equal steps, and what instance numbers say of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corewatch.slice_stack import find_stack
from corewatch.spacing import EQUAL_STEPS_MM, SHORTEST_BLOCK, Block, blocks, finest_step_mm, jumps, widest_block_mm
from tests.support.instances import one


def along(*steps: float) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(steps)])


def test_blocks_are_found_and_lone_steps_are_none() -> None:
    places = along(*[4.0] * 5, 1.1, *[7.0] * 3, 9.0, 4.0)
    assert blocks(places) == (Block(0, 5, 4.0), Block(6, 9, pytest.approx(7.0)))
    assert widest_block_mm(places) == pytest.approx(7.0)
    assert finest_step_mm(places) == pytest.approx(4.0)


def test_a_small_block_does_not_decide_how_fine_a_stack_is() -> None:
    assert finest_step_mm(along(*[0.3] * 3, *[5.0] * 20)) == pytest.approx(5.0)


@pytest.mark.parametrize("places", [np.zeros(1), along(2.0), along(1.0, 3.0)])
def test_short_stacks_have_no_block(places: np.ndarray) -> None:
    assert blocks(places) == ()
    assert widest_block_mm(places) == (np.median(np.diff(places)) if len(places) > 1 else 0.0)


@given(st.lists(st.tuples(st.integers(1, 9), st.floats(0.3, 9.0)), min_size=1, max_size=5))
def test_blocks_hold_equal_steps_and_do_not_overlap(parts: list[tuple[int, float]]) -> None:
    places = along(*[step for count, step in parts for _ in range(count)])
    last = 0
    for block in blocks(places):
        assert last <= block.first <= block.last - SHORTEST_BLOCK
        steps = np.diff(places)[block.first : block.last]
        assert np.ptp(steps) <= EQUAL_STEPS_MM
        assert steps.min() <= block.step_mm <= steps.max()
        last = block.last


@pytest.mark.parametrize(
    ("numbers", "wanted"),
    [
        ([1, 2, 3, 5, 6], [False, False, True, False]),
        ([6, 5, 3, 2, 1], [False, True, False, False]),
        ([1, 2, None, 5, 6], [False] * 4),
        ([1, 3, 2, 4, 9], [False] * 4),  # not in the order of the places
        ([1, 3, 5, 7, 9], [False] * 4),  # numbered so by the scanner
        ([7], []),
        ([], []),
    ],
)
def test_a_number_that_was_left_out_is_found(numbers: list[int | None], wanted: list[bool]) -> None:
    assert jumps(numbers).tolist() == wanted


def test_a_stack_names_its_coarsest_block() -> None:
    zs = along(*[1.0] * 60, *[7.0] * 8)
    stack = find_stack([one(n + 1, position_lps=(0.0, 0.0, float(z))) for n, z in enumerate(zs)])
    assert stack is not None
    assert (stack.step_mm, stack.coarsest_mm) == (pytest.approx(1.0), pytest.approx(7.0))
