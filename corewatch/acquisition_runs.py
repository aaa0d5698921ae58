"""In how many sweeps along the table a stack of slices was numbered.

Two acquisitions that were stored as one series may lie between each other's slices and look like one stack of half the step; their
Instance Numbers (0020,0013) then go along the head twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

MINIMUM_RUN: Final = 5
"""Shorter runs of numbers are chance, or numbers that mean nothing."""


def acquisition_runs(numbers: Sequence[int | None]) -> list[tuple[int, ...]]:
    """The runs of slices whose numbers count along the stack, up or down.

    Parameters
    ----------
    numbers
        Instance Number of each slice, in order of position.

    Returns
    -------
    For each sweep the indices into `numbers`, in order of number; empty where numbers are missing or not unique.
    """
    known = [number for number in numbers if number is not None]
    if len(known) < len(numbers) or len(set(known)) < len(known):
        return []
    runs: list[list[int]] = []
    for k in sorted(range(len(known)), key=known.__getitem__):
        run = runs[-1] if runs else []
        if not run or (len(run) > 1 and (k > run[-1]) != (run[1] > run[0])):
            runs.append([k])
        else:
            run.append(k)
    return [tuple(run) for run in runs]


def interleaved(numbers: Sequence[int | None]) -> bool:
    """Whether the numbers show several sweeps over the same part of the stack, each with slices of its own.

    One sweep, sweeps one behind the other, and numbers in no order are no sign of it.
    """
    runs = acquisition_runs(numbers)
    if len(runs) < 2 or any(len(run) < MINIMUM_RUN for run in runs):
        return False
    spans = [(min(run), max(run)) for run in runs]
    first, last = max(low for low, _ in spans), min(high for _, high in spans)
    return last - first > min(high - low for low, high in spans) / 2
