"""Positions of the slices of a series along their common normal. Frame: LPS, mm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corewatch.geometry import Orientation, slice_normal
from corewatch.instance import Instance


def common_normal(orientations: Sequence[Orientation]) -> NDArray[np.float64]:
    """Unit normal (3,), LPS, of the median orientation: independent of the order of slices; NaN where it has none."""
    row_x, row_y, row_z, column_x, column_y, column_z = np.median(np.array(orientations), axis=0).tolist()
    with np.errstate(invalid="ignore", divide="ignore"):
        return slice_normal((row_x, row_y, row_z, column_x, column_y, column_z))


@dataclass(frozen=True, slots=True, eq=False)
class SlicePositions:
    """Positions of the slices of a series, ascending along their common normal. Frame: LPS, mm.

    Attributes
    ----------
    order
        (n,) index of each slice in the given sequence.
    positions
        (n, 3) Image Position (Patient).
    normal
        (3,) common unit normal.
    along
        (n,) distance from the first slice along the normal.
    numbers
        Instance number of each slice.
    """

    order: NDArray[np.intp]
    positions: NDArray[np.float64]
    normal: NDArray[np.float64]
    along: NDArray[np.float64]
    numbers: tuple[int | None, ...]

    @property
    def axis(self) -> int:
        """Axis of the patient that the normal is closest to: 0, 1 or 2 for x, y or z."""
        return int(np.abs(self.normal).argmax())

    def place(self, k: int) -> str:
        """Position of slice `k` in words."""
        return f"{self.positions[k, self.axis]:.1f} mm (LPS {'xyz'[self.axis]})"

    def between(self, k: int, m: int) -> str:
        """Range between the slices `k` and `m` in words."""
        low, high = sorted((self.positions[k, self.axis], self.positions[m, self.axis]))
        return f"between {low:.1f} mm and {high:.1f} mm (LPS {'xyz'[self.axis]})"


def slice_positions(slices: Sequence[Instance]) -> SlicePositions | None:
    """Positions of slices in any order; None where a position or every orientation is missing, which other checks report."""
    known = [one.orientation for one in slices if one.orientation is not None]
    if not known or any(one.position_lps is None for one in slices):
        return None
    positions = np.array([one.position_lps for one in slices], np.float64)
    normal = common_normal(known)
    if not np.isfinite(normal).all():
        return None
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    numbers = tuple(slices[k].instance_number for k in order)
    return SlicePositions(order, positions, normal, (positions - positions[0]) @ normal, numbers)
