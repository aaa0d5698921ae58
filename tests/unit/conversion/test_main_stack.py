"""What does not belong to the stack that nearly all instances form is set aside with a note; two stacks are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from conversion.main_stack import separate_main_stack
from conversion.reconstruction import one_reconstruction
from conversion.series_checks import check_series
from corewatch.instance import Instance
from corewatch.reasons import Reason
from tests.support.instances import CORONAL, one, stack

SLICES = 60
MIDDLE = (-100.0, -120.0, 40.0)


def outcome(series: list[Instance]) -> tuple[tuple[str, ...], list[Reason]]:
    """Notes, and the reasons of the rest."""
    notes, kept = separate_main_stack(series)
    return notes, [problem.reason for problem in check_series([series[k] for k in kept])]


STRAYS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "page without position": ("no position", [{"position_lps": None, "orientation": None}]),
    "page without orientation": ("no position", [{"orientation": None}]),
    "sagittal reference": (
        "oriented differently",
        [{"orientation": (0.0, 1.0, 0.0, 0.0, 0.0, -1.0), "position_lps": (0.0, -120.0, 90.0)}],
    ),
    "coronal references": ("oriented differently", [{"orientation": CORONAL, "position_lps": (0.0, y, 90.0)} for y in range(5)]),
    "another matrix": ("image size", [{"rows": 600, "columns": 800, "position_lps": MIDDLE}]),
    "another field of view": ("pixel spacing", [{"pixel_spacing_mm": (0.9, 0.9), "position_lps": MIDDLE}]),
    "another frame of reference": ("frame of reference", [{"frame_of_reference_uid": "9.9", "position_lps": MIDDLE}]),
    "bolus monitoring": (
        "another reconstruction",
        [{"slice_thickness_mm": 10.0, "acquisition_number": 2, "position_lps": MIDDLE} for _ in range(12)],
    ),
    "pre-monitoring": ("another reconstruction", [{"slice_thickness_mm": 10.0, "position_lps": (-100.0, -120.0, 33.3)}]),
    "a second kernel at one place": ("another reconstruction", [{"convolution_kernel": "H70h", "position_lps": MIDDLE}]),
    "a few slices of another phase": (
        "another reconstruction",
        [{"temporal_position": 2, "position_lps": (-100.0, -120.0, 20.5 + n)} for n in range(8)],
    ),
    "far below": ("gap", [{"position_lps": (-100.0, -120.0, -80.0)}]),
    "far above": ("gap", [{"position_lps": (-100.0, -120.0, 130.0)}]),
    "two far above": ("gap", [{"position_lps": (-100.0, -120.0, 130.0 + n)} for n in range(2)]),
    "localizer": ("localizer", [{"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER"), "orientation": CORONAL}]),
}


@pytest.mark.parametrize("kind", STRAYS)
@pytest.mark.parametrize("first", [True, False])
def test_strays_are_set_aside_and_the_rest_is_one_stack(kind: str, first: bool) -> None:
    words, changes = STRAYS[kind]
    good = stack(SLICES, frame_of_reference_uid="1.1", convolution_kernel="H30f", temporal_position=1, acquisition_number=1)
    strays = [replace(good[0], sop_instance_uid=f"9.{n}", instance_number=SLICES + 1 + n, **more) for n, more in enumerate(changes)]
    series = [*strays, *good] if first else [*good, *strays]
    notes, problems = outcome(series)
    assert problems == []
    (note,) = notes
    assert note.startswith(f"{len(strays)} of {len(series)} instances set aside.")
    assert words in note
    kept = separate_main_stack(series)[1]
    assert [series[k].sop_instance_uid for k in kept] == [i.sop_instance_uid for i in good]


def test_a_stack_alone_is_kept_whole() -> None:
    assert separate_main_stack(stack(SLICES)) == ((), list(range(SLICES)))
    assert separate_main_stack([]) == ((), [])


def test_several_kinds_are_set_aside_together() -> None:
    page = one(901, position_lps=None)
    turned = one(902, orientation=CORONAL)
    notes, problems = outcome([page, *stack(SLICES), turned])
    assert (len(notes), problems) == (2, [])


def test_missing_slices_before_the_last_ones_are_missing() -> None:
    """Instance numbers tell a stray slice from a head that a gap cuts."""
    whole = stack(SLICES)
    notes, problems = outcome([*whole[:40], *whole[58:]])
    assert (notes, problems) == ((), [Reason.MISSING_SLICES])
    assert outcome([*whole[:40], *whole[50:]])[1] == [Reason.MISSING_SLICES], "ten slices beyond a gap are a part of the head"


def test_a_block_of_thicker_slices_at_the_end_is_part_of_the_head() -> None:
    thick = [one(SLICES + n, position_lps=(-100.0, -120.0, 10.0 + SLICES + 5.0 * n), slice_thickness_mm=5.0) for n in range(1, 12)]
    for few in (3, 11):
        assert separate_main_stack([*stack(SLICES), *thick[:few]])[1][-few:] == list(range(SLICES, SLICES + few))


def test_halves_are_no_strays() -> None:
    for more in ({"orientation": CORONAL}, {"rows": 256, "columns": 256}, {"frame_of_reference_uid": "2"}):
        series = [*stack(40), *(replace(i, sop_instance_uid=f"8.{n}", **more) for n, i in enumerate(stack(40)))]
        notes, problems = outcome(series)
        assert notes == ()
        assert Reason.MIXED_SERIES in problems


ALTERNATING: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Temporal Position": ({"temporal_position": 1}, {"temporal_position": 2}),
    "KVP": ({"kvp": 80.0}, {"kvp": 140.0}),
    "Convolution Kernel": ({"convolution_kernel": "H30f"}, {"convolution_kernel": "H70h"}),
    "Image Type": ({"image_type": ("ORIGINAL", "PRIMARY", "AXIAL")}, {"image_type": ("DERIVED", "PRIMARY", "AXIAL", "VMI")}),
    "Contrast/Bolus Agent": ({"contrast_agent": "OMNIPAQUE"}, {"contrast_agent": ""}),
    "Slice Thickness": ({"slice_thickness_mm": 0.6}, {"slice_thickness_mm": 3.0}),
    "Acquisition Time": ({"acquisition_time": "101500"}, {"acquisition_time": "101530"}),
}


@pytest.mark.parametrize("name", ALTERNATING)
@pytest.mark.parametrize("every", [2, 3])
def test_slices_between_each_other_are_one_reconstruction(name: str, every: int) -> None:
    this, other = ALTERNATING[name]
    series = [one(n, **(this if n % every else other)) for n in range(1, SLICES + 1)]
    (problem,) = one_reconstruction(series)
    assert (problem.reason, problem.detail) == (Reason.MIXED_SERIES, f"Slices lie between each other that differ in {name}.")
    assert separate_main_stack(series)[0] == ()
    # one behind the other they are two blocks of one head
    assert one_reconstruction([one(n, **(this if n < 30 else other)) for n in range(1, SLICES + 1)]) == []
    assert one_reconstruction([one(n, **(this if n == 30 else other)) for n in range(1, SLICES + 1)]) == []


def test_an_attribute_of_each_slice_says_nothing() -> None:
    times = stack(SLICES)
    assert (
        one_reconstruction([replace(i, acquisition_time=f"1015{n % 40}.{n}", temporal_position=n) for n, i in enumerate(times)])
        == []
    )
    assert one_reconstruction([replace(i, acquisition_time=f"10150{n // 10}") for n, i in enumerate(times)]) == []
    assert one_reconstruction([replace(i, kvp=None if n % 3 else 120.0) for n, i in enumerate(times)]) == [], (
        "absent is no other value"
    )
