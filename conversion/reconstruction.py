"""One reconstruction of one phase: attributes that its slices share, and slices of two of them between each other."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Final

from conversion.problems import Problem
from conversion.slice_positions import slice_positions
from corewatch.contrast import Sign, judge_administration
from corewatch.instance import Instance
from corewatch.reasons import Reason

RECONSTRUCTION: Final[tuple[tuple[str, Callable[[Instance], Hashable]], ...]] = (
    ("Temporal Position", lambda one: one.temporal_position),
    ("KVP", lambda one: one.kvp),
    ("Convolution Kernel", lambda one: one.convolution_kernel or None),
    ("Image Type", lambda one: one.image_type or None),
    (
        "Contrast/Bolus Agent",
        lambda one: judge_administration(one.contrast_agent, one.contrast_route, one.contrast_volume) is Sign.GIVEN,
    ),
    ("Slice Thickness", lambda one: None if one.slice_thickness_mm is None else round(one.slice_thickness_mm, 1)),
)
"""Attributes that are constant within one reconstruction of one phase, by name: a value that can be compared, None where absent."""

_MOST_RUNS_MORE: Final = 2  # runs of equal values along the stack beyond one per value; a single odd slice makes one


def reconstruction(one: Instance) -> tuple[Hashable, ...]:
    """What is constant within one reconstruction (see `RECONSTRUCTION`), as one value; what is absent is None."""
    return tuple(value(one) for _, value in RECONSTRUCTION)


def one_reconstruction(slices: Sequence[Instance]) -> list[Problem]:
    """No slices between each other's that differ in what is constant within one reconstruction and one phase.

    Blocks of slices one behind the other may differ: a head is often scanned in two. An attribute that changes with every
    slice says nothing.
    """
    line = slice_positions(slices)
    if line is None:
        return []
    mixed = []
    for name, value in (*RECONSTRUCTION, ("Acquisition Time", lambda one: one.acquisition_time or None)):
        values = [found for k in line.order if (found := value(slices[k])) is not None]
        counted = Counter(values)
        runs = sum(1 for _ in itertools.groupby(values))
        if 2 <= len(counted) <= len(values) / 3 and runs - len(counted) >= _MOST_RUNS_MORE:
            mixed.append(name)
    if not mixed:
        return []
    return [Problem(Reason.MIXED_SERIES, f"Slices lie between each other that differ in {', '.join(mixed)}.")]
