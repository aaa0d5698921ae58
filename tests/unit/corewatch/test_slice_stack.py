"""What the positions of slices say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corewatch.slice_stack import degrees_from_axial, find_stack
from tests.support.instances import AXIAL, CORONAL, one, stack

steps = st.floats(0.4, 5.0)
counts = st.integers(3, 60)


@given(counts, steps, st.randoms(use_true_random=False))
def test_a_whole_stack_is_gapless_in_any_order(count: int, step: float, random: object) -> None:
    series = stack(count, step)
    random.shuffle(series)  # type: ignore[attr-defined]
    found = find_stack(series)
    assert found is not None
    assert found.gapless
    assert found.slices == count
    assert found.step_mm == pytest.approx(step)
    assert found.coverage_mm == pytest.approx(count * step)
    assert degrees_from_axial(found) == pytest.approx(0.0)


@given(st.integers(4, 60), steps, st.data())
def test_a_stack_with_a_hole_is_not_gapless(count: int, step: float, data: st.DataObject) -> None:
    hole = data.draw(st.integers(1, count - 2))
    series = stack(count, step)
    del series[hole]
    found = find_stack(series)
    assert found is not None
    assert not found.gapless


def test_a_hole_shows_without_instance_numbers() -> None:
    series = [replace(i, instance_number=None) for i in stack(20)]
    assert find_stack(series).gapless  # type: ignore[union-attr]
    del series[7]
    assert not find_stack(series).gapless  # type: ignore[union-attr]


def test_every_second_slice_is_a_stack_of_its_own_that_only_the_numbers_betray() -> None:
    found = find_stack(stack(40)[::2])
    assert found is not None
    assert found.step_mm == pytest.approx(2.0)
    assert not found.gapless


def test_numbers_may_begin_at_nought_but_not_in_the_middle() -> None:
    assert find_stack([replace(i, instance_number=n) for n, i in enumerate(stack(10))]).gapless  # type: ignore[union-attr]
    assert not find_stack(stack(20)[10:]).gapless  # type: ignore[union-attr]


def test_positions_rounded_by_the_scanner_still_are_gapless() -> None:
    series = [replace(i, position_lps=(0.0, 0.0, round(0.625 * n, 1))) for n, i in enumerate(stack(64))]
    assert find_stack(series).gapless  # type: ignore[union-attr]


def test_slices_of_two_thicknesses_are_not_gapless() -> None:
    places = [4.0 * n for n in range(14)] + [52.0 + 7.0 * n for n in range(1, 15)]
    series = [replace(one(n + 1), position_lps=(0.0, 0.0, z)) for n, z in enumerate(places)]
    assert not find_stack(series).gapless  # type: ignore[union-attr]


@given(st.floats(-30, 30))
def test_a_tilted_gantry_is_measured_along_the_normal(degrees: float) -> None:
    turn = np.deg2rad(degrees)
    orientation = (1.0, 0.0, 0.0, 0.0, float(np.cos(turn)), float(np.sin(turn)))
    # the table moves along z, as in a tilted scan: the distance along the normal is shorter
    series = [replace(i, orientation=orientation) for i in stack(30, 2.0)]
    found = find_stack(series)
    assert found is not None
    assert found.gapless
    assert found.step_mm == pytest.approx(2.0 * np.cos(turn))
    assert degrees_from_axial(found) == pytest.approx(abs(degrees), abs=1e-4)


def test_two_phases_at_each_position() -> None:
    first = stack(20)
    second = [replace(i, sop_instance_uid=f"9.{n}", instance_number=21 + n) for n, i in enumerate(first)]
    both = find_stack(first + second)
    assert both is not None
    assert (both.slices, both.phases, both.gapless) == (20, 2, True)
    assert not find_stack(first + second[:-3]).gapless  # type: ignore[union-attr]


def test_a_stray_of_another_orientation_is_counted_and_spoils_the_stack() -> None:
    found = find_stack([*stack(20), one(21, orientation=CORONAL)])
    assert found is not None
    assert (found.slices, found.strays, found.gapless) == (20, 1, False)


def test_the_larger_of_two_stacks_is_the_stack() -> None:
    coronal = [replace(i, orientation=CORONAL, position_lps=(0.0, 1.0 * n, 0.0)) for n, i in enumerate(stack(30))]
    found = find_stack(stack(20) + coronal)
    assert found is not None
    assert degrees_from_axial(found) == pytest.approx(90.0)


def test_small_noise_in_the_direction_cosines_does_not_split_a_stack() -> None:
    rng = np.random.default_rng(5)
    series = [replace(i, orientation=tuple((np.array(AXIAL) + rng.normal(0, 1e-5, 6)).tolist())) for i in stack(50)]
    found = find_stack(series)
    assert found is not None
    assert (found.slices, found.strays) == (50, 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"position_lps": None},
        {"orientation": None},
        {"orientation": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)},
        {"orientation": (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)},
        {"orientation": (float("nan"), 0.0, 0.0, 0.0, 1.0, 0.0)},
        {"orientation": (1e300, 0.0, 0.0, 0.0, 1e300, 0.0)},
        {"position_lps": (0.0, 0.0, float("nan"))},
        {"position_lps": (0.0, 0.0, float("inf"))},
        {"position_lps": (0.0, 0.0, 1e300)},
    ],
)
def test_headers_that_say_nothing_are_no_stack(changes: dict[str, object]) -> None:
    assert find_stack(stack(5, **changes)) is None
    mixed = find_stack([*stack(20), one(21, **changes)])
    assert mixed is not None
    assert (mixed.slices, mixed.strays) == (20, 1)


def test_nothing_is_no_stack() -> None:
    assert find_stack([]) is None


def test_one_or_two_slices_are_never_gapless() -> None:
    assert not find_stack(stack(1)).gapless  # type: ignore[union-attr]
    assert not find_stack(stack(2)).gapless  # type: ignore[union-attr]
