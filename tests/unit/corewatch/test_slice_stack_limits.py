"""The tolerances of slice stacks, blocks and runs, on both sides of each."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from corewatch.acquisition_runs import MINIMUM_RUN, acquisition_runs, interleaved
from corewatch.instance import Instance
from corewatch.slice_stack import SliceStack, degrees_from_axial, find_stack, first_at_each_position
from corewatch.spacing import blocks, finest_step_mm, jumps, widest_block_mm
from tests.support.instances import AXIAL, CORONAL, one, stack


def found(instances: list[Instance]) -> SliceStack:
    stack_ = find_stack(instances)
    assert stack_ is not None
    return stack_


def at(*zs: float) -> list[Instance]:
    return [one(n + 1, position_lps=(0.0, 0.0, z)) for n, z in enumerate(zs)]


# positions ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("apart", "slices", "phases"), [(0.0, 3, 2), (0.009, 3, 2), (0.011, 4, 1)])
def test_slices_at_the_same_position(apart: float, slices: int, phases: int) -> None:
    stack_ = found(at(0.0, 1.0, 2.0, 2.0 + apart))
    assert (stack_.slices, stack_.phases) == (slices, phases)


def test_the_first_slice_at_each_position() -> None:
    assert first_at_each_position(np.array([3.0])).tolist() == [0]
    assert first_at_each_position(np.array([0.0, 0.005, 1.0, 2.0, 2.0, 2.0])).tolist() == [0, 2, 3]


@pytest.mark.parametrize(("off", "gapless"), [(0.24, True), (-0.24, True), (0.26, False), (-0.26, False)])
def test_a_step_may_differ_by_a_quarter(off: float, gapless: bool) -> None:
    assert found(at(0.0, 1.0, 2.0, 3.0, 4.0 + off)).gapless is gapless
    assert found(at(*(4 * z for z in (0.0, 1.0, 2.0, 3.0, 4.0 + off)))).gapless is gapless, "a quarter of the step, not of a mm"


@pytest.mark.parametrize(("slices", "gapless"), [(1, False), (2, False), (3, True)])
def test_three_slices_make_a_stack(slices: int, gapless: bool) -> None:
    stack_ = found(stack(slices, 2.0))
    assert (stack_.slices, stack_.gapless) == (slices, gapless)
    assert (stack_.step_mm, stack_.coverage_mm) == ((0.0, 0.0) if slices == 1 else (2.0, 2.0 * slices))


def test_what_is_measured() -> None:
    assert found(at(-3.0, 0.0, 1.0, 2.0, 7.0)) == SliceStack(5, 2.0, 2.0, 12.0, (0.0, 0.0, 1.0), 1, 0, False)


@pytest.mark.parametrize(("far", "strays"), [(9.9e4, 0), (-9.9e4, 0), (1.01e5, 1), (-1.01e5, 1)])
def test_a_position_out_of_all_reach_is_none(far: float, strays: int) -> None:
    for axis in range(3):
        position = [0.0, 0.0, 5.0]
        position[axis] = far
        assert found([*stack(20), one(21, position_lps=tuple(position))]).strays == strays


# orientations ---------------------------------------------------------------------------------------------------------------------


def turned(cosine: float) -> tuple[float, ...]:
    return (1.0, 0.0, 0.0, 0.0, math.sqrt(1 - cosine**2), cosine)


@pytest.mark.parametrize(("cosine", "strays"), [(0.0099, 0), (-0.0099, 0), (0.0101, 1), (-0.0101, 1)])
def test_slices_of_nearly_one_orientation_belong_together(cosine: float, strays: int) -> None:
    assert found([*stack(20), one(21, orientation=turned(cosine))]).strays == strays


@pytest.mark.parametrize(("length", "plane"), [(0.91, True), (1.09, True), (0.89, False), (1.11, False)])
def test_directions_that_span_no_unit_square_are_no_plane(length: float, plane: bool) -> None:
    series = stack(5, orientation=(length, 0.0, 0.0, 0.0, 1.0, 0.0))
    assert (find_stack(series) is not None) is plane


def test_of_two_orientations_as_frequent_always_the_same_is_the_stack() -> None:
    axial, coronal = stack(5), [replace(i, orientation=CORONAL) for i in stack(5)]
    assert found([*axial, *coronal]) == found([*coronal, *axial])
    assert AXIAL > CORONAL
    assert degrees_from_axial(found([*axial, *coronal])) == 0.0


def test_the_angle_from_axial_does_not_depend_on_the_normals_sign() -> None:
    upside_down = stack(5, orientation=(1.0, 0.0, 0.0, 0.0, -1.0, 0.0))
    assert found(upside_down).normal_lps == (0.0, 0.0, -1.0)
    assert degrees_from_axial(found(upside_down)) == 0.0
    assert degrees_from_axial(replace(found(upside_down), normal_lps=(0.0, 0.0, 1.0 + 1e-15))) == 0.0
    assert degrees_from_axial(replace(found(upside_down), normal_lps=(0.0, 0.6, 0.8))) == pytest.approx(36.8699)


# numbers --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "gapless"),
    [
        ((1, 2, 3, 4), True),
        ((0, 1, 2, 3), True),
        ((4, 3, 2, 1), True),
        ((2, 3, 4, 5), False),
        ((-1, 0, 1, 2), False),
        ((1, 2, 3, 5), False),
        ((1, 2, 3, None), True),
        ((None, None, None, None), True),
        ((1, 2, 5, None), True),
    ],
)
def test_instance_numbers_of_a_gapless_stack(numbers: tuple[int | None, ...], gapless: bool) -> None:
    assert found([replace(i, instance_number=n) for i, n in zip(stack(4), numbers, strict=True)]).gapless is gapless


# blocks ---------------------------------------------------------------------------------------------------------------------------


def along(*steps: float) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(steps)])


def spans(*steps: float) -> list[tuple[int, int]]:
    return [(block.first, block.last) for block in blocks(along(*steps))]


def test_three_equal_steps_are_a_block() -> None:
    assert spans(2.0, 2.0) == []
    assert spans(2.0, 2.0, 2.0) == [(0, 3)]
    assert spans(2.0, 2.0, 5.0, 5.0, 5.0) == [(2, 5)]
    assert spans(2.0, 2.0, 2.0, 5.0, 5.0, 5.0) == [(0, 3), (3, 6)]


def test_steps_of_a_block_differ_by_two_roundings_at_most() -> None:
    assert spans(2.0, 2.19, 2.0) == [(0, 3)]
    assert spans(2.0, 2.21, 2.0) == []
    assert blocks(along(2.0, 2.1, 2.15))[0].step_mm == pytest.approx(2.1)


def test_how_many_steps_a_block_has() -> None:
    assert [block.steps for block in blocks(along(*[1.0] * 4, *[3.0] * 7))] == [4, 7]


def test_a_block_of_a_quarter_of_the_steps_decides_how_fine_a_stack_is() -> None:
    assert finest_step_mm(along(*[1.0] * 4, *[3.0] * 12)) == pytest.approx(1.0)
    assert finest_step_mm(along(*[1.0] * 4, *[3.0] * 13)) == pytest.approx(3.0)
    assert finest_step_mm(along(1.0, 2.0, 4.0)) == 2.0
    assert widest_block_mm(along(*[1.0] * 4, *[3.0] * 12)) == pytest.approx(3.0)
    assert widest_block_mm(along(1.0, 2.0, 4.0)) == 2.0
    assert widest_block_mm(np.array([5.0])) == 0.0


@pytest.mark.parametrize(
    ("numbers", "wanted"),
    [
        ([1, 2, 3, 5], [False, False, True]),
        ([5, 3, 2, 1], [True, False, False]),
        ([1, 2, 4], [False, False]),  # more than half of them must follow each other
        ([1, 2, 2], [False, False]),
        ([2, 2, 1], [False, False]),
        ([3, 4], [False]),
        ([3, 5], [False]),
        ([1, 4, 5, 6], [True, False, False]),
        ([1, 3, 5], [False, False]),
        ([None], []),
        ([None, 2], [False]),
        ([1, 2, 4, None], [False] * 3),
    ],
)
def test_between_which_slices_a_number_was_left_out(numbers: list[int | None], wanted: list[bool]) -> None:
    assert jumps(numbers).tolist() == wanted


# runs -----------------------------------------------------------------------------------------------------------------------------


def test_runs_go_up_or_down() -> None:
    assert acquisition_runs([1, 4, 2, 5, 3, 6]) == [(0, 2, 4), (1, 3, 5)]
    assert acquisition_runs([3, 4, 2, 5, 1, 6]) == [(4, 2, 0), (1, 3, 5)]
    assert acquisition_runs([10, 20, 30]) == [(0, 1, 2)]
    assert acquisition_runs([1]) == [(0,)]
    assert acquisition_runs([]) == []
    assert acquisition_runs([1, 2, 2]) == []
    assert acquisition_runs([1, 2, None]) == []


def two_runs(first: int, second: int, shared: int) -> list[int | None]:
    """Numbers of two runs of this many slices, of which `shared` of the first alternate with slices of the second."""
    order = ["a"] * (first - shared) + ["a", "b"] * shared + ["b"] * (second - shared)
    numbers, a, b = [], 0, first
    for which in order:
        a, b = (a + 1, b) if which == "a" else (a, b + 1)
        numbers.append(a if which == "a" else b)
    return numbers


@pytest.mark.parametrize(("first", "second", "wanted"), [(4, 4, False), (5, 4, False), (4, 5, False), (5, 5, True), (9, 5, True)])
def test_short_runs_are_chance(first: int, second: int, wanted: bool) -> None:
    assert MINIMUM_RUN == 5
    assert interleaved(two_runs(first, second, min(first, second))) is wanted


@pytest.mark.parametrize(("shared", "wanted"), [(0, False), (1, False), (8, False), (9, True), (10, True), (20, True)])
def test_runs_that_share_half_of_their_way_are_interleaved(shared: int, wanted: bool) -> None:
    assert interleaved(two_runs(20, 20, shared)) is wanted


def test_one_run_is_not_interleaved() -> None:
    assert not interleaved(list(range(20)))
