"""What the steps between slices tell: what the scanner was told to do, and what went missing.

A head is often scanned in blocks, thin slices through the posterior fossa and thicker ones above. Within a block the steps are
equal; a lone wider step is a hole. Lengths in mm along the slice normal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

SHORTEST_BLOCK: Final = 3
"""Equal steps in a row that nobody makes by accident: three holes of the same width would have to lie side by side."""

EQUAL_STEPS_MM: Final = 0.2
"""Steps of one block differ by no more: both ends of each may be rounded to one decimal."""

SMALL_SHARE: Final = 0.25
"""Of all steps; a block with fewer does not decide how fine the whole stack is."""


@dataclass(frozen=True, slots=True)
class Block:
    """Slices `first` to `last` (inclusive, in ascending order) lie `step_mm` apart."""

    first: int
    last: int
    step_mm: float

    @property
    def steps(self) -> int:
        """How many."""
        return self.last - self.first


def blocks(along_mm: NDArray[np.float64]) -> tuple[Block, ...]:
    """Blocks of at least `SHORTEST_BLOCK` equal steps.

    Parameters
    ----------
    along_mm
        (n,) strictly ascending places of slices.
    """
    steps = np.diff(along_mm)
    found, first = [], 0
    for k in range(1, len(steps) + 1):
        if k == len(steps) or np.ptp(steps[first : k + 1]) > EQUAL_STEPS_MM:
            if k - first >= SHORTEST_BLOCK:
                found.append(Block(first, k, float(np.median(steps[first:k]))))
            first = k
    return tuple(found)


def widest_block_mm(along_mm: NDArray[np.float64]) -> float:
    """Step of the coarsest block; the median step where there is none, 0 where there is no step."""
    found = blocks(along_mm)
    if found:
        return max(block.step_mm for block in found)
    return float(np.median(np.diff(along_mm))) if len(along_mm) > 1 else 0.0


def finest_step_mm(along_mm: NDArray[np.float64]) -> float:
    """Step of the finest block that is no small part of the stack; the median step where there is none."""
    steps = len(along_mm) - 1
    fine = [block.step_mm for block in blocks(along_mm) if block.steps >= SMALL_SHARE * steps]
    return min(fine, default=float(np.median(np.diff(along_mm))))


def jumps(numbers: Sequence[int | None]) -> NDArray[np.bool_]:
    """Between which neighbours an instance number (0020,0013) was left out: (n - 1,).

    Parameters
    ----------
    numbers
        Of slices in the order of their places. They say nothing, and nothing jumps, unless each slice has one, they ascend or
        descend throughout, and most follow each other.
    """
    known = np.array([number for number in numbers if number is not None], np.int64)
    ways = np.diff(known)
    silent = len(known) < max(len(numbers), 2) or not ((ways > 0).all() or (ways < 0).all()) or np.median(np.abs(ways)) > 1
    return np.zeros(max(len(numbers) - 1, 0), np.bool_) if silent else np.abs(ways) > 1
