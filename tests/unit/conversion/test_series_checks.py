"""The checks of a series: what is right passes in any order, and each fault is found, named and placed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversion.problems import Problem, raise_problems
from conversion.series_checks import (
    GRID_TOLERANCE_MM,
    LARGEST_BRIDGED_STEP_MM,
    LARGEST_PLANNED_STEP_MM,
    WHOLE_HEAD,
    StackRequirements,
    check_series,
)
from corewatch.errors import NotAnalysed
from corewatch.geometry import slice_normal
from corewatch.instance import Instance
from corewatch.reasons import Reason

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def tilted(degrees: float) -> tuple[float, float, float, float, float, float]:
    angle = np.deg2rad(degrees)
    return (1.0, 0.0, 0.0, 0.0, float(np.cos(angle)), float(-np.sin(angle)))


def series(count: int = 20, step: float = 1.0, orientation=AXIAL, direction=(0.0, 0.0, 1.0), start=(-120.0, -110.0, -60.0)):
    """Slices at regular steps along `direction`."""
    where = np.array(start) + np.arange(count)[:, None] * step * np.array(direction)
    return [
        Instance(
            sop_instance_uid=f"1.{n}",
            sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            series_uid="1.2",
            study_uid="1.1",
            modality="CT",
            frame_of_reference_uid="1.3",
            rows=512,
            columns=512,
            position_lps=tuple(position),
            orientation=orientation,
            pixel_spacing_mm=(0.5, 0.5),
            acquisition_number=1,
        )
        for n, position in enumerate(where.tolist())
    ]


def reasons(slices: list[Instance]) -> list[Reason]:
    return [problem.reason for problem in check_series(slices)]


stacks = st.builds(
    series,
    count=st.integers(6, 60),
    step=st.floats(0.3, 5.0),
    orientation=st.floats(-25, 25).map(tilted),
    direction=st.sampled_from([(0.0, 0.0, 1.0), (0.0, 0.0, -1.0)]),
)


@given(stacks, st.randoms())
def test_a_regular_stack_has_no_problem_in_any_order(slices: list[Instance], random) -> None:
    random.shuffle(slices)
    assert check_series(slices) == []


@given(stacks, st.data())
def test_positions_written_with_one_decimal_pass(slices: list[Instance], data) -> None:
    rounded = [replace(s, position_lps=tuple(round(v, 1) for v in s.position_lps)) for s in slices]
    found = reasons(rounded)
    step = abs(slices[1].position_lps[2] - slices[0].position_lps[2])
    if step > 4 * GRID_TOLERANCE_MM:  # below, a rounded step may look like a missing slice; it is then bridged
        assert found == []
    else:
        assert Reason.MISSING_SLICES not in found


@given(stacks, st.data())
def test_a_missing_inner_slice_is_bridged_or_named_with_its_place(slices: list[Instance], data) -> None:
    at = data.draw(st.integers(1, len(slices) - 2))
    kept = slices[:at] + slices[at + 1 :]
    found = check_series(data.draw(st.permutations(kept)))
    step = abs(slices[1].position_lps[2] - slices[0].position_lps[2])
    gap = 2 * step * abs(slice_normal(slices[0].orientation)[2])
    if gap <= LARGEST_BRIDGED_STEP_MM - 1e-6:
        assert found == []
    elif gap >= LARGEST_BRIDGED_STEP_MM + 1e-6:
        low, high = sorted((slices[at - 1].position_lps[2], slices[at + 1].position_lps[2]))
        assert [problem.reason for problem in found] == [Reason.MISSING_SLICES]
        assert f"between {low:.1f} mm and {high:.1f} mm (LPS z)" in found[0].detail


@given(stacks, st.data())
def test_a_second_slice_at_one_position_is_found_and_placed(slices: list[Instance], data) -> None:
    twin = data.draw(st.sampled_from(slices))
    found = check_series(data.draw(st.permutations([*slices, replace(twin, sop_instance_uid="2.1")])))
    assert (
        Problem(Reason.MIXED_SERIES, f"1 positions occur more than once, the first at {twin.position_lps[2]:.1f} mm (LPS z).")
        in found
    )


@given(stacks, st.integers(2, 5))
def test_phases_are_counted(slices: list[Instance], phases: int) -> None:
    several = [replace(s, sop_instance_uid=f"{s.sop_instance_uid}.{n}") for n in range(phases) for s in slices]
    assert check_series(several) == [Problem(Reason.MIXED_SERIES, f"Each of its {len(slices)} positions occurs {phases} times.")]


FAULTS = {
    "frame of reference": ({"frame_of_reference_uid": "9"}, Reason.MIXED_SERIES, "2 frames of reference"),
    "series": ({"series_uid": "9"}, Reason.MIXED_SERIES, "2 series"),
    "matrix": ({"rows": 256}, Reason.MIXED_SERIES, "19 x 512 x 512, 1 x 512 x 256"),
    "no image": ({"rows": None}, Reason.NOT_A_VOLUME, "1 instances hold no image"),
    "spacing": ({"pixel_spacing_mm": (0.5, 0.6)}, Reason.MIXED_SERIES, "from 0.5 mm to 0.6 mm"),
    "no spacing": ({"pixel_spacing_mm": None}, Reason.IRREGULAR_GEOMETRY, "1 slices have no pixel spacing"),
    "orientation": ({"orientation": tilted(10)}, Reason.MIXED_SERIES, "1 of 20 slices are oriented differently"),
    "no orientation": ({"orientation": None}, Reason.IRREGULAR_GEOMETRY, "1 slices have no orientation"),
    "skewed": ({"orientation": (1.0, 0, 0, 0.5, 1.0, 0)}, Reason.IRREGULAR_GEOMETRY, "not at right angles"),
    "no position": ({"position_lps": None}, Reason.IRREGULAR_GEOMETRY, "1 of 20 slices have no position"),
    "sideways": ({"position_lps": (-118.0, -110.0, -53.0)}, Reason.IRREGULAR_GEOMETRY, "at -53.0 mm (LPS z) lies 2.00 mm off"),
    "modality": ({"modality": "MR"}, Reason.NOT_CT, "1 x MR"),
    "class": ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.7"}, Reason.NOT_A_VOLUME, "1 of 20 instances are no CT images"),
    "localizer": ({"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, Reason.NOT_A_VOLUME, "1 of 20 images are localizers"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_one_slice_is_found_wherever_it_stands(fault: str) -> None:
    change, reason, text = FAULTS[fault]
    for at in (0, 7, 19):
        slices = series()
        if fault == "sideways" and at != 7:
            continue
        slices[at] = replace(slices[at], **change)
        found = check_series(slices)
        assert any(problem.reason is reason and text in problem.detail for problem in found), found


def test_all_problems_come_together_gravest_first() -> None:
    slices = series(3, 10.0)
    slices[1] = replace(slices[1], modality="PT", frame_of_reference_uid="9", pixel_spacing_mm=None)
    found = check_series(slices)
    assert [problem.reason for problem in found] == [
        Reason.NOT_CT,
        Reason.MIXED_SERIES,
        Reason.IRREGULAR_GEOMETRY,
        Reason.TOO_FEW_SLICES,
    ]
    with pytest.raises(NotAnalysed) as caught:
        raise_problems(found)
    assert caught.value.reason is Reason.NOT_CT
    assert caught.value.remedy == found[0].remedy
    for problem in found:
        assert problem.detail in str(caught.value)
        assert problem.reason.sentence in str(caught.value)
        assert problem.remedy in f"{caught.value} {caught.value.remedy}"


def test_problems_of_one_reason_share_its_remedy() -> None:
    found = [Problem(Reason.UNREADABLE, "One."), Problem(Reason.MIXED_SERIES, "Two."), Problem(Reason.MIXED_SERIES, "Three.")]
    with pytest.raises(NotAnalysed) as caught:
        raise_problems(found, ["A note."])
    mixed = Reason.MIXED_SERIES
    assert caught.value.detail == f"One. {mixed.sentence} Two. Three. {mixed.remedy} A note."


def test_no_problem_raises_nothing() -> None:
    raise_problems([])


def test_images_at_one_position_are_no_volume() -> None:
    assert check_series(series(12, 0.0)) == [Problem(Reason.NOT_A_VOLUME, "All 12 images lie at one position.")]


def test_two_interleaved_acquisitions_are_mixed() -> None:
    first = series(20, 2.0)
    second = [
        replace(s, acquisition_number=2, sop_instance_uid=f"2.{n}")
        for n, s in enumerate(series(20, 2.0, start=(-120.0, -110.0, -59.3)))
    ]
    assert reasons(first + second) == [Reason.MIXED_SERIES]


@pytest.mark.parametrize("offset", [0.5, 1.0], ids=["between", "halfway"])
def test_two_acquisitions_of_one_number_are_told_apart_by_their_images_numbers(offset: float) -> None:
    first = [replace(s, instance_number=1 + n) for n, s in enumerate(series(20, 2.0))]
    second = [
        replace(s, sop_instance_uid=f"2.{n}", instance_number=21 + n)
        for n, s in enumerate(series(20, 2.0, start=(-120.0, -110.0, -60.0 + offset)))
    ]
    assert reasons(first + second) == [Reason.MIXED_SERIES]


def test_acquisition_numbers_that_count_along_the_table_are_one_stack() -> None:
    blocks = [replace(s, acquisition_number=n // 5) for n, s in enumerate(series(20))]
    assert check_series(blocks) == []


def blocks_of(*parts: tuple[int, float], between: float | None = None) -> list[Instance]:
    """Blocks of (steps, mm) one on top of the other, numbered from 1."""
    zs = [-60.0]
    for n, (count, step) in enumerate(parts):
        if n and between is not None:
            zs.append(zs[-1] + between)
        zs += [zs[-1] + step * (k + 1) for k in range(count)]
    slices = series(len(zs))
    return [
        replace(s, position_lps=(-120.0, -110.0, z), instance_number=n + 1) for n, (s, z) in enumerate(zip(slices, zs, strict=True))
    ]


@pytest.mark.parametrize("between", [None, 1.1, 3.75])
@pytest.mark.parametrize("parts", [((12, 2.5), (16, 5.0)), ((13, 4.0), (13, 7.0)), ((5, 3.0), (4, 5.0), (3, 7.5))])
def test_blocks_of_planned_steps_are_one_stack(parts: tuple[tuple[int, float], ...], between: float | None) -> None:
    slices = blocks_of(*parts, between=between)
    assert check_series(slices) == []
    assert check_series([replace(s, instance_number=None) for s in slices]) == []
    assert check_series([replace(s, instance_number=len(slices) - n) for n, s in enumerate(slices)]) == []


@given(st.data())
def test_a_slice_missing_from_a_block_is_named(data) -> None:
    slices = blocks_of((12, 2.5), (16, 5.0))
    at = data.draw(st.integers(1, len(slices) - 2))
    numbered = data.draw(st.booleans())
    kept = [s if numbered else replace(s, instance_number=None) for n, s in enumerate(slices) if n != at]
    found = check_series(data.draw(st.permutations(kept)))
    low, high = slices[at - 1].position_lps[2], slices[at + 1].position_lps[2]
    if at in (9, 10, 11) and not numbered:  # next to the coarser block, whose steps are as wide as the hole: numbers alone tell
        assert found == []
        return
    assert [problem.reason for problem in found] == [Reason.MISSING_SLICES]
    assert f"between {low:.1f} mm and {high:.1f} mm (LPS z)" in found[0].detail


def test_every_second_slice_of_a_block_missing_shows_in_the_numbers() -> None:
    slices = blocks_of((12, 2.5), (16, 3.5))
    kept = slices[:13] + slices[14::2]
    (problem,) = check_series(kept)
    assert problem.reason is Reason.MISSING_SLICES
    assert "Steps of up to 7.00 mm where 2.50 mm are usual: between -30.0 mm" in problem.detail
    assert check_series([replace(s, instance_number=None) for s in kept]) == [], "nothing else could tell"


def test_a_block_wider_than_is_planned_is_missing_slices() -> None:
    (problem,) = check_series(blocks_of((9, 4.0), (6, LARGEST_PLANNED_STEP_MM + 0.5)))
    assert problem == Problem(
        Reason.MISSING_SLICES, "Steps of up to 8.00 mm where 4.00 mm are usual: between -24.0 mm and 24.0 mm (LPS z)."
    )


def test_steps_that_vary_without_a_gap_are_irregular() -> None:
    slices = series(12, 5.0)
    moved = [replace(s, position_lps=(-120.0, -110.0, s.position_lps[2] + (0.6 if n % 2 else 0.0))) for n, s in enumerate(slices)]
    (problem,) = check_series(moved)
    assert problem == Problem(Reason.IRREGULAR_GEOMETRY, "The distance between slices varies from 4.40 mm to 5.60 mm.")


def test_regular_steps_may_be_bounded() -> None:
    thick = series(12, 8.0)
    assert check_series(thick) == []
    assert check_series(thick, StackRequirements(widest_step_mm=8.0)) == []
    (problem,) = check_series(thick[::-1], WHOLE_HEAD)
    assert problem == Problem(Reason.SLICES_TOO_THICK, "They lie 8.0 mm apart; at most 7.5 mm are allowed.")


def test_coverage_counts_both_faces() -> None:
    assert check_series(series(40, 2.0), WHOLE_HEAD) == []
    (problem,) = check_series(series(39, 2.0)[::-1], WHOLE_HEAD)
    assert problem == Problem(Reason.TOO_LITTLE_COVERAGE, "They cover 78 mm; at least 80 mm are needed.")
    assert check_series(series(39, 2.0)) == []


def test_a_coronal_stack_names_its_own_axis() -> None:
    coronal = series(10, 4.0, orientation=(1.0, 0, 0, 0, 0, -1.0), direction=(0, 1.0, 0))
    del coronal[4]
    (problem,) = check_series(coronal)
    assert "between -98.0 mm and -90.0 mm (LPS y)" in problem.detail


def test_thickness_and_tilt_tags_do_not_matter() -> None:
    assert check_series([replace(s, slice_thickness_mm=n * 3.0) for n, s in enumerate(series())]) == []
