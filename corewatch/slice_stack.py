"""What the positions of a series' slices say: do they form one regular stack, how long is it, and how fine.

Works on headers alone. Frame: LPS, mm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from corewatch.geometry import slice_normal
from corewatch.instance import Instance
from corewatch.spacing import widest_block_mm

POSITION_TOLERANCE_MM: Final = 0.02
"""Slices closer than this along the normal lie at the same position."""

ORIENTATION_TOLERANCE: Final = 0.01
"""Direction cosines that differ by less belong to the same stack (0.01 is about half a degree)."""

STEP_TOLERANCE: Final = 0.25
"""Share by which one step may differ from the median step: covers positions that the scanner rounded to 0.1 mm."""

_FARTHEST_MM: Final = 1e5  # a table moves 2 m; what lies farther off is no position

_MIN_REGULAR: Final = 3  # two slices have one step, which always equals its own median


@dataclass(frozen=True, slots=True)
class SliceStack:
    """The largest group of slices of one orientation.

    Attributes
    ----------
    slices
        Number of different positions along the normal.
    step_mm
        Median distance between neighbouring positions along the normal; 0 where there is one position only.
    coarsest_mm
        The same, of the coarsest block where a stack is made of several (`corewatch.spacing`).
    coverage_mm
        From the lower face of the first slice to the upper face of the last: distance of their centres plus one step.
    normal_lps
        Unit normal of the slices, LPS.
    phases
        Largest number of slices at one position: more than 1 where a series holds several acquisitions or reconstructions.
    strays
        Instances of the series that are not in this stack: another orientation, or none.
    regular
        At least three positions, equal steps, the same number of slices at each position, no stray, and instance numbers (where
        all have one) without a gap: nothing says that a slice is missing.
    """

    slices: int
    step_mm: float
    coarsest_mm: float
    coverage_mm: float
    normal_lps: tuple[float, float, float]
    phases: int
    strays: int
    regular: bool


def find_stack(instances: Sequence[Instance]) -> SliceStack | None:
    """Find the stack in `instances` (each SOP instance once, any order); None where none of them says where it lies."""
    group, orientation = _largest_orientation(instances)
    if not group or orientation is None:
        return None
    normal = slice_normal(orientation)
    along = np.sort(np.array([i.position_lps for i in group], np.float64) @ normal)
    places, counts = _places(along)
    steps = np.diff(places)
    step = float(np.median(steps)) if steps.size else 0.0
    strays = len(instances) - len(group)
    regular = (
        strays == 0
        and places.size >= _MIN_REGULAR
        and bool(np.all(np.abs(steps - step) <= STEP_TOLERANCE * step))
        and bool(np.all(counts == counts[0]))
        and _numbers_have_no_gap(group)
    )
    return SliceStack(
        slices=int(places.size),
        step_mm=step,
        coarsest_mm=max(step, widest_block_mm(places)),
        coverage_mm=float(places[-1] - places[0]) + step,
        normal_lps=(float(normal[0]), float(normal[1]), float(normal[2])),
        phases=int(counts.max()),
        strays=strays,
        regular=regular,
    )


def degrees_from_axial(stack: SliceStack) -> float:
    """Angle in degrees, 0 to 90, between the stack's normal and the patient's long axis (LPS z)."""
    return float(np.degrees(np.arccos(min(1.0, abs(stack.normal_lps[2])))))


_Orientation = tuple[float, float, float, float, float, float]


def _largest_orientation(instances: Sequence[Instance]) -> tuple[list[Instance], _Orientation | None]:
    # hundreds of slices have one orientation, and a series is looked at again and again while it arrives: each is judged once
    counted = Counter(i.orientation for i in instances if i.orientation is not None and _is_place(i.position_lps))
    planes = [orientation for orientation in counted if _is_plane(orientation)]
    if not planes:
        return [], None
    # ties are broken by the value, so that the order of arrival decides nothing
    reference = max(planes, key=lambda orientation: (counted[orientation], orientation))
    alike = {o for o in planes if max(abs(a - b) for a, b in zip(o, reference, strict=True)) < ORIENTATION_TOLERANCE}
    return [i for i in instances if i.orientation in alike and _is_place(i.position_lps)], reference


def _is_plane(orientation: _Orientation) -> bool:
    values = np.array(orientation, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        area = float(np.linalg.norm(np.cross(values[:3], values[3:])))
    return bool(np.isfinite(area)) and abs(area - 1.0) < 0.1


def _is_place(position: tuple[float, float, float] | None) -> bool:
    return position is not None and all(abs(value) < _FARTHEST_MM for value in position)


def _places(along: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Different positions in sorted `along`, and how many slices lie at each."""
    starts = np.flatnonzero(np.concatenate([[True], np.diff(along) > POSITION_TOLERANCE_MM]))
    return along[starts], np.diff(np.append(starts, along.size))


def _numbers_have_no_gap(group: Sequence[Instance]) -> bool:
    """Whether the instance numbers (0020,0013) run from 0 or 1 without a gap, or say nothing because some have none.

    Every second slice of a stack is a regular stack of its own; only the numbers tell.
    """
    numbers = {i.instance_number for i in group if i.instance_number is not None}
    if any(i.instance_number is None for i in group):
        return True
    return min(numbers) in (0, 1) and max(numbers) - min(numbers) + 1 == len(numbers)
