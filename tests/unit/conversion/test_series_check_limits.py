"""Each check of a series for itself, on both sides of its limit, with the words that it says."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conversion import series_checks as checks
from conversion.problems import Problem
from conversion.series_checks import ANY_STACK, WHOLE_HEAD, StackRequirements, check_series, lies_on_grid
from conversion.slice_positions import common_normal
from corewatch.dicom_uids import CT_SOP_CLASSES
from corewatch.instance import Instance
from corewatch.reasons import Reason
from tests.support.instances import AXIAL, CORONAL, one, stack

MIXED, IRREGULAR, NO_VOLUME = Reason.MIXED_SERIES, Reason.IRREGULAR_GEOMETRY, Reason.NOT_A_VOLUME


def at(*zs: float, **changes: Any) -> list[Instance]:
    return [one(n + 1, position_lps=(0.0, 0.0, z), **changes) for n, z in enumerate(zs)]


def numberless(slices: list[Instance]) -> list[Instance]:
    return [replace(s, instance_number=None) for s in slices]


def test_limits_are_those_that_were_measured() -> None:
    assert StackRequirements(4, math.inf, 0.0) == ANY_STACK == StackRequirements()
    assert StackRequirements(4, 7.5, 80.0) == WHOLE_HEAD


# what belongs together ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ([{}, {}], []),
        ([{"modality": "ct"}, {"modality": ""}, {"modality": " CT "}], []),
        ([{"modality": "MR"}, {}], [Problem(Reason.NOT_CT, "It holds 1 x MR.")]),
        (
            [{"modality": ""}, {"modality": "PT"}, {"modality": "PT"}],
            [Problem(Reason.NOT_CT, "It holds 2 x PT.")],
        ),
        ([{"sop_class_uid": "1.2"}, {}], [Problem(NO_VOLUME, "1 of 2 instances are no CT images.")]),
        ([{"image_type": ("A", "B", "LOCALIZER")}, {}], [Problem(NO_VOLUME, "1 of 2 images are localizers.")]),
        ([{"image_type": ("A", "B", "C", "LOCALIZER")}, {}], [Problem(NO_VOLUME, "1 of 2 images are localizers.")]),
        ([{"image_type": ("LOCALIZER", "LOCALIZER", "C")}, {}], []),
        (
            [{"sop_class_uid": "1.2", "image_type": ("A", "B", "LOCALIZER")}, {}],
            [Problem(NO_VOLUME, "1 of 2 instances are no CT images."), Problem(NO_VOLUME, "1 of 2 images are localizers.")],
        ),
    ],
)
def test_only_ct_images_and_no_localizers(changes: list[dict[str, Any]], problems: list[Problem]) -> None:
    assert checks.is_ct([one(n + 1, **change) for n, change in enumerate(changes)]) == problems
    assert all(checks.is_ct([one(sop_class_uid=uid)]) == [] for uid in CT_SOP_CLASSES)


@pytest.mark.parametrize(
    ("check", "field", "what"),
    [
        (checks.one_series, "series_uid", "series"),
        (checks.one_study, "study_uid", "studies"),
        (checks.one_frame_of_reference, "frame_of_reference_uid", "frames of reference"),
    ],
)
def test_one_of_each(check: Any, field: str, what: str) -> None:
    slices = stack(6)
    assert check(slices) == check([]) == []
    slices[2:] = [replace(s, **{field: "9.9"}) for s in slices[2:]]
    assert check(slices) == [Problem(MIXED, f"It holds 2 {what}.")]


@pytest.mark.parametrize(("ids", "wrong"), [(["A", "A"], False), (["A", "", ""], False), ([], False), (["A", "B", ""], True)])
def test_one_patient_among_the_files_that_name_one(ids: list[str], wrong: bool) -> None:
    assert checks.one_patient(ids) == ([Problem(MIXED, "It holds 2 patients.")] if wrong else [])


@pytest.mark.parametrize(
    ("sizes", "problems"),
    [
        ([(512, 512)] * 3, []),
        ([(512, 512), (512, 256), (512, 256)], [Problem(MIXED, "It holds 2 image sizes: 2 x 256 x 512, 1 x 512 x 512.")]),
        ([(512, 512), (None, 512), (512, None)], [Problem(NO_VOLUME, "2 instances hold no image.")]),
        ([(0, 512)], [Problem(NO_VOLUME, "1 instances hold no image.")]),
        ([(n, 1) for n in range(1, 7)], [Problem(MIXED, "It holds 6 image sizes: 1 x 1 x 1, 1 x 1 x 2, 1 x 1 x 3, 1 x 1 x 4.")]),
    ],
)
def test_one_matrix(sizes: list[tuple[int | None, int | None]], problems: list[Problem]) -> None:
    assert checks.one_matrix([one(n + 1, rows=rows, columns=columns) for n, (rows, columns) in enumerate(sizes)]) == problems


@pytest.mark.parametrize(
    ("other", "problems"),
    [
        ((0.5, 0.5), []),
        ((0.5009, 0.5), []),
        ((0.5, 0.4991), []),
        ((0.5011, 0.5), [Problem(MIXED, "The pixel spacing varies from 0.5 mm to 0.5011 mm.")]),
        ((0.5, 0.4989), [Problem(MIXED, "The pixel spacing varies from 0.4989 mm to 0.5 mm.")]),
        (None, [Problem(IRREGULAR, "1 slices have no pixel spacing.")]),
    ],
)
def test_one_pixel_spacing(other: tuple[float, float] | None, problems: list[Problem]) -> None:
    assert checks.one_pixel_spacing([*stack(3), one(4, pixel_spacing_mm=other)]) == problems


def test_no_spacing_and_no_orientation_at_all() -> None:
    assert checks.one_pixel_spacing(stack(3, pixel_spacing_mm=None)) == [Problem(IRREGULAR, "3 slices have no pixel spacing.")]
    assert checks.one_orientation(stack(3, orientation=None)) == [Problem(IRREGULAR, "3 slices have no orientation.")]
    assert checks.positions_present(stack(3, position_lps=None)) == [Problem(IRREGULAR, "3 of 3 slices have no position.")]
    assert checks.positions_present(stack(3)) == []


def tilted(sine: float) -> tuple[float, ...]:
    return (1.0, 0.0, 0.0, 0.0, math.sqrt(1 - sine**2), sine)


@pytest.mark.parametrize(
    ("orientation", "problems"),
    [
        (tilted(9.9e-4), []),
        (tilted(-9.9e-4), []),
        (tilted(1.01e-3), [Problem(MIXED, "1 of 5 slices are oriented differently.")]),
        (tilted(-1.01e-3), [Problem(MIXED, "1 of 5 slices are oriented differently.")]),
        (CORONAL, [Problem(MIXED, "1 of 5 slices are oriented differently.")]),
        (None, [Problem(IRREGULAR, "1 slices have no orientation.")]),
    ],
)
def test_one_orientation(orientation: Any, problems: list[Problem]) -> None:
    assert checks.one_orientation([*stack(4), one(5, orientation=orientation)]) == problems


@pytest.mark.parametrize(
    ("orientation", "right"),
    [
        ((1.0, 0.0, 0.0, 0.0099, 1.0, 0.0), True),
        ((1.0, 0.0, 0.0, -0.0101, 1.0, 0.0), False),
        ((1.0, 0.0, 0.0, 0.0101, 1.0, 0.0), False),
        ((1.0049, 0.0, 0.0, 0.0, 1.0, 0.0), True),
        ((1.0051, 0.0, 0.0, 0.0, 1.0, 0.0), False),
        ((1.0, 0.0, 0.0, 0.0, 0.9951, 0.0), True),
        ((1.0, 0.0, 0.0, 0.0, 0.9949, 0.0), False),
        ((0.9949, 0.0, 0.0, 0.0, 1.0, 0.0), False),
        ((1.0, 0.0, 0.0, 0.0, 1.0051, 0.0), False),
        # small faults of length, of two directions and of the angle add up
        ((1.003, 0.0, 0.0, 0.0, 0.997, 0.0), False),
    ],
)
def test_directions_at_right_angles_and_of_unit_length(orientation: tuple[float, ...], right: bool) -> None:
    found = checks.one_orientation(stack(4, orientation=orientation))
    assert found == ([] if right else [Problem(IRREGULAR, "The directions of rows and columns are not at right angles.")])


def test_the_common_normal_is_that_of_the_middle_orientation() -> None:
    np.testing.assert_allclose(common_normal([AXIAL, AXIAL, CORONAL]), [0, 0, 1])
    np.testing.assert_allclose(common_normal([CORONAL, AXIAL, CORONAL]), [0, 1, 0])
    assert np.isnan(common_normal([(0.0,) * 6])).all()


# positions ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zs", "problems"),
    [
        ((0.0,), []),
        ((0.0, 1.0), []),
        ((0.0, 0.0), [Problem(NO_VOLUME, "All 2 images lie at one position.")]),
        ((0.0, 0.009, 0.018), [Problem(NO_VOLUME, "All 3 images lie at one position.")]),
        ((0.0, 0.011, 1.0), []),
        ((0.0, 1.0, 1.0, 2.0), [Problem(MIXED, "1 positions occur more than once, the first at 1.0 mm (LPS z).")]),
        ((0.0, 1.0, 1.0, 2.0, 3.0, 3.0), [Problem(MIXED, "2 positions occur more than once, the first at 1.0 mm (LPS z).")]),
        ((5.0, 5.0, 1.0, 1.0), [Problem(MIXED, "Each of its 2 positions occurs 2 times.")]),
        ((5.0, 5.0, 5.0, 1.0, 1.0, 1.0), [Problem(MIXED, "Each of its 2 positions occurs 3 times.")]),
    ],
)
def test_no_two_slices_at_one_position(zs: tuple[float, ...], problems: list[Problem]) -> None:
    assert checks.positions_unique(at(*zs)) == problems


@pytest.mark.parametrize("check", [checks.positions_unique, checks.positions_on_a_line, checks.regular_increments])
def test_without_positions_or_a_normal_other_checks_speak(check: Any) -> None:
    assert check([*stack(4), one(5, position_lps=None)]) == []
    assert check(stack(4, orientation=None)) == []
    assert check(stack(4, orientation=(0.0,) * 6)) == []
    assert checks.fine_enough(stack(4, orientation=None), 0.1) == []
    assert checks.long_enough(stack(4, orientation=None), 1000.0) == []
    assert check([]) == []


@pytest.mark.parametrize(("off", "straight"), [(0.099, True), (-0.099, True), (0.101, False), (-0.101, False)])
@pytest.mark.parametrize("axis", [0, 1])
def test_positions_lie_on_a_line(off: float, straight: bool, axis: int) -> None:
    slices = at(0.0, 1.0, 2.0, 3.0)
    moved = [0.0, 0.0, 1.0]
    moved[axis] = off
    slices[1] = replace(slices[1], position_lps=tuple(moved))
    wanted = [] if straight else [Problem(IRREGULAR, "The slice at 1.0 mm (LPS z) lies 0.10 mm off the line of the others.")]
    assert checks.positions_on_a_line(slices) == wanted
    drifting = [replace(s, position_lps=(7.0 * n, -3.0 * n, 1.0 * n)) for n, s in enumerate(slices)]
    assert checks.positions_on_a_line(drifting) == [], "a tilted gantry moves on in a straight line too"
    assert checks.positions_on_a_line(slices[:2]) == checks.positions_on_a_line(at(1.0, 1.0, 1.0)) == []


@pytest.mark.parametrize(
    ("zs", "on_grid"),
    [
        ((0.0, 1.0, 2.0, 3.0), True),
        ((0.0, 1.099, 2.0, 3.0), True),
        ((0.0, 0.901, 2.0, 3.0), True),
        ((0.0, 1.101, 2.0, 3.0), False),
        ((0.0, 0.899, 2.0, 3.0), False),
        ((0.0, 1.0), True),
        # with fine slices the tolerance alone would let a missing slice pass
        ((0.0, 0.1, 0.25, 0.35, 0.45), True),
        ((0.0, 0.1, 0.2, 0.36, 0.46), False),
    ],
)
def test_whether_slices_lie_on_a_grid(zs: tuple[float, ...], on_grid: bool) -> None:
    assert lies_on_grid(np.array(zs)) is on_grid


def blocks_of(*parts: tuple[int, float]) -> list[Instance]:
    zs = [0.0]
    for count, step in parts:
        zs += [zs[-1] + step * (k + 1) for k in range(count)]
    return at(*zs)


def gap(widest: float, usual: float, *places: tuple[float, float], more: int = 0) -> str:
    where = ", ".join(f"between {low:.1f} mm and {high:.1f} mm (LPS z)" for low, high in places)
    further = f" and at {more} more places" if more else ""
    return f"Steps of up to {widest:.2f} mm where {usual:.2f} mm are usual: {where}{further}."


@pytest.mark.parametrize(
    ("slices", "detail"),
    [
        # bridged up to 3 mm
        (at(0.0, 1.0, 2.0, 5.0, 6.0), None),
        (at(0.0, 1.0, 2.0, 5.01, 6.01), gap(3.01, 1, (2, 5))),
        # a step of less than one and a half usual ones is no gap, and irregular
        (at(0.0, 2.5, 5.0, 8.7, 11.2), "The distance between slices varies from 2.50 mm to 3.70 mm."),
        (at(0.0, 2.5, 5.0, 8.8, 11.3), gap(3.8, 2.5, (5, 8.8))),
        # successive gaps are one place; of several places three are named
        (at(0.0, 1.0, 2.0, 6.0, 10.0, 11.0, 12.0), gap(4, 1, (2, 10))),
        (
            at(*[5.0 * k + n for k in range(5) for n in (0.0, 0.5, 1.0)]),
            gap(4, 0.5, (1, 5), (6, 10), (11, 15), more=1),
        ),
        (
            at(*[5.0 * k + n for k in range(4) for n in (0.0, 0.5, 1.0)]),
            gap(4, 0.5, (1, 5), (6, 10), (11, 15)),
        ),
        # blocks of planned steps up to 7.5 mm, and a step between two blocks up to the wider of them
        (blocks_of((4, 2.0), (4, 7.5)), None),
        (blocks_of((4, 2.0), (4, 7.6)), gap(7.6, 2, (8, 38.4))),
        (blocks_of((4, 2.0), (1, 6.1), (4, 6.0)), None),
        (blocks_of((4, 2.0), (1, 6.3), (4, 6.0)), gap(6.3, 2, (8, 14.3))),
        (blocks_of((4, 6.0), (1, 6.3), (4, 2.0)), gap(6.3, 2, (24, 30.3))),
        (blocks_of((1, 6.1), (4, 6.0), (4, 2.0), (1, 2.1)), None),
        (blocks_of((4, 2.0), (4, 6.0), (1, 6.1)), None),
        # a lone wide step in the middle of a fine stack belongs to no block
        (blocks_of((4, 2.0), (2, 6.0), (4, 2.0)), gap(6, 2, (8, 20))),
        (blocks_of((4, 2.0), (4, 6.0), (4, 2.0), (1, 6.0), (4, 2.0)), gap(6, 2, (40, 46))),
    ],
)
def test_steps(slices: list[Instance], detail: str | None) -> None:
    for order in (slices, slices[::-1], numberless(slices)):
        found = checks.regular_increments(order)
        reason = Reason.MISSING_SLICES if detail and detail.startswith("Steps") else IRREGULAR
        assert found == ([] if detail is None else [Problem(reason, detail)])


def test_a_number_that_was_left_out_makes_a_planned_step_a_gap() -> None:
    slices = blocks_of((4, 2.0), (4, 6.0))
    slices[6:] = [replace(s, instance_number=(s.instance_number or 0) + 1) for s in slices[6:]]
    (problem,) = checks.regular_increments(slices)
    assert problem.detail == "Steps of up to 6.00 mm where 2.00 mm are usual: between 14.0 mm and 20.0 mm (LPS z)."
    assert checks.regular_increments(numberless(slices)) == []


def test_doubles_and_short_series_have_no_steps_to_judge() -> None:
    assert checks.regular_increments(at(0.0, 9.0)) == []
    assert checks.regular_increments(at(0.0, 0.0, 9.0)) == []
    assert checks.regular_increments(at(0.0, 0.0, 1.0, 1.0, 2.0, 2.0)) == []
    assert checks.regular_increments(at(0.0, 0.0, 1.0, 10.0)) != []


def acquisitions(*groups: tuple[float, ...]) -> list[Instance]:
    return [
        one(100 * a + n, position_lps=(0.0, 0.0, z), acquisition_number=a, instance_number=None)
        for a, zs in enumerate(groups)
        for n, z in enumerate(zs)
    ]


@pytest.mark.parametrize(
    ("groups", "mixed"),
    [
        (((0.0, 2.0, 4.0, 6.0), (1.0, 3.0, 5.0, 7.0)), True),
        (((0.0, 2.0, 4.0, 6.0), (0.3, 2.3, 4.3, 6.3)), True),
        # one behind the other, touching or not
        (((0.0, 1.0, 2.0, 3.0), (4.0, 5.0, 6.0, 7.0)), False),
        (((4.0, 5.0, 6.0, 7.0), (0.0, 1.0, 2.0, 3.0)), False),
        # overlapping by a little is overlapping
        (((0.0, 1.0, 2.0, 3.0), (2.5, 3.5, 4.5, 5.5)), True),
        # too short or too irregular to be an acquisition
        (((0.0, 2.0, 4.0), (1.0, 3.0, 5.0)), False),
        (((0.0, 2.0, 4.0, 6.0), (1.0, 3.0, 5.0)), False),
        (((0.0, 1.0, 3.0, 4.0), (0.5, 1.5, 2.5, 3.5)), False),
        (((0.0, 1.0, 2.0, 3.0, 4.0, 5.0),), False),
    ],
)
def test_acquisitions_that_overlap(groups: tuple[tuple[float, ...], ...], mixed: bool) -> None:
    found = checks.regular_increments(acquisitions(*groups))
    wanted = Problem(MIXED, "Its acquisitions overlap, each with different slice positions.")
    assert (found == [wanted]) is mixed


# what else a stack must have ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "enough"), [(3, False), (4, True), (5, True)])
def test_enough_slices(count: int, enough: bool) -> None:
    assert checks.enough_slices(stack(count)) == ([] if enough else [Problem(Reason.TOO_FEW_SLICES, "It has 3.")])
    assert checks.enough_slices(stack(count), 6) == [Problem(Reason.TOO_FEW_SLICES, f"It has {count}.")]
    assert check_series(stack(count)) == ([] if enough else [Problem(Reason.TOO_FEW_SLICES, "It has 3.")])


@pytest.mark.parametrize(("step", "fine"), [(7.5, True), (7.509, True), (7.511, False), (9.0, False)])
def test_fine_enough(step: float, fine: bool) -> None:
    wanted = [] if fine else [Problem(Reason.SLICES_TOO_THICK, f"They lie {step:.1f} mm apart; at most 7.5 mm are allowed.")]
    assert checks.fine_enough(stack(3, step), 7.5) == checks.fine_enough(stack(12, step)[::-1], 7.5) == wanted
    assert checks.fine_enough(stack(2, step), 7.5) == []
    assert checks.fine_enough(at(0.0, 1.0, 30.0), 7.5) == [], "irregular steps are named otherwise"


@pytest.mark.parametrize(("coverage", "long"), [(80.0, True), (79.991, True), (79.989, False), (40.0, False)])
def test_long_enough(coverage: float, long: bool) -> None:
    wanted = [] if long else [Problem(Reason.TOO_LITTLE_COVERAGE, f"They cover {coverage:.0f} mm; at least 80 mm are needed.")]
    assert checks.long_enough(stack(20, coverage / 20), 80.0) == wanted
    assert checks.long_enough(stack(2, coverage / 2)[::-1], 80.0) == wanted
    assert checks.long_enough(stack(1), 80.0) == []


@pytest.mark.parametrize(
    ("orientation", "direction", "axis"),
    [((0.0, 1.0, 0.0, 0.0, 0.0, -1.0), (-1.0, 0.0, 0.0), "x"), (CORONAL, (0.0, 1.0, 0.0), "y"), (AXIAL, (0.0, 0.0, 1.0), "z")],
)
def test_places_are_named_along_the_axis_that_the_stack_runs_along(orientation: Any, direction: Any, axis: str) -> None:
    steps = (0.0, 2.0, 4.0, 12.0, 14.0)
    slices = [one(n + 1, orientation=orientation, position_lps=tuple(s * d for d in direction)) for n, s in enumerate(steps)]
    (problem,) = check_series(slices)
    low, high = sorted((4.0 * sum(direction), 12.0 * sum(direction)))
    assert problem.detail.endswith(f"between {low:.1f} mm and {high:.1f} mm (LPS {axis}).")
