"""Acquisition runs of a series from its Instance Numbers (0020,0013), and whether they are interleaved.

The slices of two acquisitions in one series may alternate and look like one stack of half the step. Their Instance Numbers then run
along the head twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

MINIMUM_RUN: Final = 5
"""Fewest slices of a run: shorter ones occur by chance, or where numbers have no meaning."""


def acquisition_runs(numbers: Sequence[int | None]) -> list[tuple[int, ...]]:
    """Runs of slices whose numbers ascend or descend along the stack.

    Parameters
    ----------
    numbers
        Instance Number of each slice, in order of position.

    Returns
    -------
    For each run the indices into `numbers`, in order of number; empty where numbers are missing or not unique.

    >>> acquisition_runs([1, 4, 2, 5, 3, 6])
    [(0, 2, 4), (1, 3, 5)]
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
    """Whether several runs cover the same part of the stack, each with different slices.

    False for one run, for runs one behind the other, and for numbers in no order.
    """
    runs = acquisition_runs(numbers)
    if len(runs) < 2 or any(len(run) < MINIMUM_RUN for run in runs):
        return False
    spans = [(min(run), max(run)) for run in runs]
    first, last = max(low for low, _ in spans), min(high for _, high in spans)
    return last - first > min(high - low for low, high in spans) / 2
