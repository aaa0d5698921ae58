"""Blocks of equal slice steps, and gaps in instance numbers.

A head is often scanned in blocks: thin slices through the posterior fossa and thicker ones above. Within a block the steps are
equal; a single wider step is a gap. Lengths in mm along the slice normal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

SHORTEST_BLOCK: Final = 3
"""Fewest equal steps in a row that are a block: three gaps of the same width side by side do not happen by chance."""

EQUAL_STEPS_MM: Final = 0.2
"""Largest difference between steps of one block: both ends of each may be rounded to one decimal."""

SMALL_SHARE: Final = 0.25
"""Share of all steps below which a block does not decide how fine the whole stack is."""


@dataclass(frozen=True, slots=True)
class Block:
    """Slices `first` to `last` (inclusive, in ascending order) lie `step_mm` apart."""

    first: int
    last: int
    step_mm: float

    @property
    def steps(self) -> int:
        """Number of steps in the block."""
        return self.last - self.first


def blocks(along_mm: NDArray[np.float64]) -> tuple[Block, ...]:
    """Blocks of at least `SHORTEST_BLOCK` equal steps.

    Parameters
    ----------
    along_mm
        (n,) strictly ascending positions of slices.
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
    """Step of the finest block with at least `SMALL_SHARE` of the steps; the median step where there is none."""
    steps = len(along_mm) - 1
    fine = [block.step_mm for block in blocks(along_mm) if block.steps >= SMALL_SHARE * steps]
    return min(fine, default=float(np.median(np.diff(along_mm))))


def jumps(numbers: Sequence[int | None]) -> NDArray[np.bool_]:
    """Between which neighbours an instance number (0020,0013) is missing: bool, (n - 1,).

    Parameters
    ----------
    numbers
        Instance numbers in the order of positions. No gap is found unless each slice has a number, the numbers ascend or descend
        throughout, and most are consecutive.
    """
    known = np.array([number for number in numbers if number is not None], np.int64)
    steps = np.diff(known)
    silent = len(known) < max(len(numbers), 2) or not ((steps > 0).all() or (steps < 0).all()) or np.median(np.abs(steps)) > 1
    return np.zeros(max(len(numbers) - 1, 0), np.bool_) if silent else np.abs(steps) > 1
