"""Main stack of a series: sets aside the instances that do not belong to the stack that nearly all others form.

Pages, references, bolus monitoring and single stray slices share a series with its slices. Each kind is named in a note. Where the
rest is no clear majority, nothing is set aside, and the checks of `conversion.series_checks` say why the series is refused. Frame:
LPS, mm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from conversion.reconstruction import reconstruction
from conversion.series_checks import (
    GAP_FACTOR,
    LARGEST_BRIDGED_STEP_MM,
    MINIMUM_SLICES,
    SPACING_TOLERANCE_MM,
)
from conversion.slice_positions import SlicePositions, slice_positions
from corewatch.instance import Instance
from corewatch.reasons import Reason
from corewatch.selection import not_a_slice
from corewatch.slice_stack import SAME_POSITION_MM, SAME_STACK_COSINE

LARGEST_SHARE_ASIDE: Final = 0.25
"""Largest share of the instances that may be set aside: a bolus monitoring has up to 40 images beside 160 slices."""

LARGEST_STRAY_GROUP: Final = 2
"""Most slices beyond a gap at an end of the stack that count as strays. More are a part of the head that a gap cuts off."""


def separate_main_stack(instances: Sequence[Instance]) -> tuple[tuple[str, ...], list[int]]:
    """Find the instances that form the main stack.

    Parameters
    ----------
    instances
        One per slice (one per frame of a multi-frame object), each once, in any order.

    Returns
    -------
    A sentence for each kind that was set aside, and the indices of the rest, ascending.
    """
    pages = _pages(instances)
    kept = [k for k in range(len(instances)) if k not in pages]
    if 2 * len(kept) < len(instances):
        return (), list(range(len(instances)))
    aside = pages | _strays(instances, kept)
    counted = Counter(aside.values())
    notes = [f"{count} of {len(instances)} instances set aside. {why}" for why, count in sorted(counted.items())]
    return tuple(notes), [k for k in kept if k not in aside]


def _pages(instances: Sequence[Instance]) -> dict[int, str]:
    """Localizers, projections, dose pages and captures, by what Image Type and SOP class say."""
    found = ((k, not_a_slice(one)) for k, one in enumerate(instances))
    return {k: page.detail for k, page in found if page is not None and page.reason is Reason.NOT_A_VOLUME}


def _strays(instances: Sequence[Instance], kept: Sequence[int]) -> dict[int, str]:
    """Slices that the geometry and the reconstruction of the others leave out; empty where these are no clear majority."""
    aside: dict[int, str] = {}
    for step in (_without_geometry, _other_plane_or_matrix, _other_reconstruction, _beyond_a_gap):
        rest = [k for k in kept if k not in aside]
        found = step([instances[k] for k in rest])
        more = {rest[k]: why for k, why in found.items()}
        if len(aside) + len(more) <= LARGEST_SHARE_ASIDE * len(kept) and len(rest) - len(more) >= MINIMUM_SLICES:
            aside |= more
    return aside


def _without_geometry(slices: Sequence[Instance]) -> dict[int, str]:
    return {k: "They have no position." for k, one in enumerate(slices) if one.position_lps is None or one.orientation is None}


def _other_plane_or_matrix(slices: Sequence[Instance]) -> dict[int, str]:
    """Slices whose orientation, frame of reference, matrix or pixel spacing is not that of the majority."""
    aside: dict[int, str] = {}
    questions: tuple[tuple[str, Callable[[Instance], Hashable]], ...] = (
        ("They are oriented differently.", lambda one: one.orientation),
        ("They have another frame of reference.", lambda one: one.frame_of_reference_uid),
        ("They have another image size.", lambda one: (one.columns, one.rows)),
        ("They have another pixel spacing.", lambda one: one.pixel_spacing_mm),
    )
    tolerances = {0: SAME_STACK_COSINE, 3: SPACING_TOLERANCE_MM}
    for n, (why, value) in enumerate(questions):
        counted = Counter(value(one) for k, one in enumerate(slices) if k not in aside)
        if not counted:
            continue
        usual = max(counted, key=lambda v: (counted[v], str(v)))
        for k, one in enumerate(slices):
            if k not in aside and value(one) is not None and not _alike(value(one), usual, tolerances.get(n, 0.0)):
                aside[k] = why
    return aside


def _alike(value: object, usual: object, tolerance: float) -> bool:
    if isinstance(value, tuple) and isinstance(usual, tuple) and tolerance:
        return all(abs(a - b) <= tolerance for a, b in zip(value, usual, strict=True))
    return value == usual


def _other_reconstruction(slices: Sequence[Instance]) -> dict[int, str]:
    """Slices of another reconstruction, acquisition or time at places that the slices of the main one cover without a gap."""
    groups: dict[Hashable, list[int]] = {}
    for k, one in enumerate(slices):
        groups.setdefault((reconstruction(one), one.acquisition_number), []).append(k)
    if len(groups) < 2:
        return {}
    main = max(groups.values(), key=lambda group: (len(group), -group[0]))
    line = slice_positions([slices[k] for k in main])
    if line is None or len(main) < MINIMUM_SLICES or not _gapless(line.along):
        return {}
    first = float(line.positions[0] @ line.normal)
    inside: dict[int, str] = {}
    for k in set(range(len(slices))) - set(main):
        position = slices[k].position_lps
        along = np.nan if position is None else float(np.array(position) @ line.normal) - first
        if -SAME_POSITION_MM <= along <= line.along[-1] + SAME_POSITION_MM:
            inside[k] = "They belong to another reconstruction or acquisition at places of this one."
    return inside


def _gapless(along: NDArray[np.float64]) -> bool:
    steps = np.diff(along)
    return bool(steps.min() > SAME_POSITION_MM and steps.max() <= GAP_FACTOR * float(np.median(steps)))


def _beyond_a_gap(slices: Sequence[Instance]) -> dict[int, str]:
    """One or two slices beyond a gap at an end of the stack, unless their instance numbers show that slices between are missing."""
    line = slice_positions(slices)
    if line is None or len(slices) < MINIMUM_SLICES + LARGEST_STRAY_GROUP:
        return {}
    steps = np.diff(line.along)
    usual = float(np.median(steps))
    aside: dict[int, str] = {}
    for few in range(LARGEST_STRAY_GROUP, 0, -1):
        for gap, neighbour, beyond in ((few - 1, few, range(few)), (len(steps) - few, len(steps) - few - 1, range(-few, 0))):
            wide = steps[gap] > max(LARGEST_BRIDGED_STEP_MM, GAP_FACTOR * usual, GAP_FACTOR * steps[neighbour])
            if wide and not _numbers_explain(line, gap, usual):
                aside |= {int(line.order[k]): "They lie beyond a gap at an end of the stack." for k in beyond}
    return aside


def _numbers_explain(line: SlicePositions, gap: int, usual_mm: float) -> bool:
    """Whether about as many instance numbers as slices are missing in a gap."""
    below, above = line.numbers[gap], line.numbers[gap + 1]
    if below is None or above is None:
        return False
    missing_numbers, missing_slices = abs(above - below) - 1, (line.along[gap + 1] - line.along[gap]) / usual_mm - 1
    return missing_numbers >= 1 and abs(missing_numbers - missing_slices) <= max(1.0, 0.25 * missing_slices)
