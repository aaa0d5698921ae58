"""Slice stack of a series from its headers: position count, step, coverage, normal, gaps. Frame: LPS, mm.

Two questions are asked of the same positions, and each has its own tolerance:

* *gapless* (here): does any header say that a slice is missing? It decides when a series is complete. Steps may differ by 25 %.
* *on a grid* (`conversion.series_checks.lies_on_grid`): can slice n be voxel plane n? It decides whether the volume is
  interpolated. A position may be off by a tenth of the network's voxel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from corewatch.geometry import Orientation, slice_normal
from corewatch.instance import Instance
from corewatch.spacing import widest_block_mm

SAME_POSITION_MM: Final = 0.01
"""Slices closer than this along the normal lie at the same position."""

SAME_STACK_COSINE: Final = 0.01
"""Slices whose direction cosines differ by less belong to the same stack: half a degree. Whether they are parallel enough for one
volume is a stricter question, see `conversion.series_checks.PARALLEL_COSINE`."""

EQUAL_STEPS_SHARE: Final = 0.25
"""Largest deviation of a step from the median step in a gapless stack, as a share of it: covers positions rounded to 0.1 mm."""

_FARTHEST_MM: Final = 1e5  # a table moves 2 m; a larger coordinate is no position

_AREA_TOLERANCE: Final = 0.1  # of the unit square that the direction cosines of a row and a column span

_FEWEST_SLICES: Final = 3  # two slices have one step, which always equals its own median


@dataclass(frozen=True, slots=True)
class SliceStack:
    """The largest group of parallel slices in a series.

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
    gapless
        No header says that a slice is missing: at least three positions, equal steps, the same number of slices at each position,
        no stray, and instance numbers (where all have one) without a gap.
    """

    slices: int
    step_mm: float
    coarsest_mm: float
    coverage_mm: float
    normal_lps: tuple[float, float, float]
    phases: int
    strays: int
    gapless: bool


def find_stack(instances: Sequence[Instance]) -> SliceStack | None:
    """Find the stack of a series.

    Parameters
    ----------
    instances
        Each SOP instance once, in any order.

    Returns
    -------
    None where no instance has a position and an orientation.
    """
    group, orientation = _largest_orientation(instances)
    if not group or orientation is None:
        return None
    normal = slice_normal(orientation)
    along = np.sort(np.array([i.position_lps for i in group], np.float64) @ normal)
    starts = first_at_each_position(along)
    positions, counts = along[starts], np.diff(np.append(starts, along.size))
    steps = np.diff(positions)
    step = float(np.median(steps)) if steps.size else 0.0
    strays = len(instances) - len(group)
    gapless = (
        strays == 0
        and positions.size >= _FEWEST_SLICES
        and bool(np.all(np.abs(steps - step) <= EQUAL_STEPS_SHARE * step))
        and bool(np.all(counts == counts[0]))
        and _numbers_have_no_gap(group)
    )
    return SliceStack(
        slices=int(positions.size),
        step_mm=step,
        coarsest_mm=max(step, widest_block_mm(positions)),
        coverage_mm=float(positions[-1] - positions[0]) + step,
        normal_lps=(float(normal[0]), float(normal[1]), float(normal[2])),
        phases=int(counts.max()),
        strays=strays,
        gapless=gapless,
    )


def first_at_each_position(along: NDArray[np.float64]) -> NDArray[np.intp]:
    """Index of the first slice at each position.

    Parameters
    ----------
    along
        (n,) places of slices along the normal, ascending, mm.

    >>> first_at_each_position(np.array([0.0, 0.0, 1.0, 1.001, 2.0])).tolist()
    [0, 2, 4]
    """
    return np.flatnonzero(np.concatenate([[True], np.diff(along) > SAME_POSITION_MM]))


def degrees_from_axial(stack: SliceStack) -> float:
    """Angle in degrees, 0 to 90, between the stack's normal and the patient's long axis (LPS z)."""
    return float(np.degrees(np.arccos(min(1.0, abs(stack.normal_lps[2])))))


def _largest_orientation(instances: Sequence[Instance]) -> tuple[list[Instance], Orientation | None]:
    # hundreds of slices have one orientation, and a series is examined again while it arrives: each orientation is examined once
    counted = Counter(i.orientation for i in instances if i.orientation is not None and _is_position(i.position_lps))
    planes = [orientation for orientation in counted if _is_plane(orientation)]
    if not planes:
        return [], None
    # ties are broken by the value, so that the order of arrival decides nothing
    reference = max(planes, key=lambda orientation: (counted[orientation], orientation))
    alike = {o for o in planes if max(abs(a - b) for a, b in zip(o, reference, strict=True)) < SAME_STACK_COSINE}
    return [i for i in instances if i.orientation in alike and _is_position(i.position_lps)], reference


def _is_plane(orientation: Orientation) -> bool:
    values = np.array(orientation, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        area = float(np.linalg.norm(np.cross(values[:3], values[3:])))
    return bool(np.isfinite(area)) and abs(area - 1.0) < _AREA_TOLERANCE


def _is_position(position: tuple[float, float, float] | None) -> bool:
    return position is not None and all(abs(value) < _FARTHEST_MM for value in position)


def _numbers_have_no_gap(group: Sequence[Instance]) -> bool:
    """Whether the instance numbers (0020,0013) run from 0 or 1 without a gap, or say nothing because some have none.

    Every second slice of a stack is a gapless stack too; only the numbers tell.
    """
    numbers = {i.instance_number for i in group if i.instance_number is not None}
    if any(i.instance_number is None for i in group):
        return True
    return min(numbers) in (0, 1) and max(numbers) - min(numbers) + 1 == len(numbers)
