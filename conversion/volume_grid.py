"""Voxel grid of a checked series: slice order, affine, shear of a tilted gantry, interpolation of irregular steps.

The grid follows from positions and orientations alone (PS3.3 C.7.6.2.1.1), before a pixel is decoded. Frame: LPS, mm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from conversion.series_checks import GRID_TOLERANCE_MM, lies_on_grid
from conversion.slice_positions import slice_positions
from corewatch.errors import NotAnalysed
from corewatch.geometry import Matrix
from corewatch.instance import Instance
from corewatch.reasons import Reason
from corewatch.spacing import finest_step_mm

LARGEST_GRID: Final = 1 << 30
"""Most voxels of a grid that slices are sheared or interpolated onto; a head in voxels of 0.3 mm needs less than half of it."""

AIR_HU: Final = -1000
"""Value of voxels where nothing was measured."""


@dataclass(frozen=True, slots=True, eq=False)
class VolumeGrid:
    """Where each slice of a series lies on the regular grid of its volume.

    Attributes
    ----------
    order
        Index of each slice in the given sequence, ascending along the normal.
    along_mm
        (n,) distance of each slice from the first along the normal, mm.
    shift
        (n, 2) where pixel (0, 0) of each slice falls on the grid, in pixels along columns and rows. All zero except for a tilted
        gantry, whose slices slide sideways from one to the next.
    shape
        (columns, rows, slices) of the grid. Larger than the images where slices slide, so that nothing is cut off.
    voxel_to_lps
        Grid index (column, row, slice) -> LPS mm, centre of the voxel. The third axis is the slice normal, so the axes are
        orthogonal and right-handed.
    interpolated
        Whether grid slices are interpolated between the slices of the series; else slice n of the grid is slice n of the series.
    """

    order: tuple[int, ...]
    along_mm: NDArray[np.float64]
    shift: NDArray[np.float64]
    shape: tuple[int, int, int]
    voxel_to_lps: Matrix
    interpolated: bool

    @property
    def notes(self) -> tuple[str, ...]:
        """How the slices were changed to fit the grid, in sentences of one line for pages and reports."""
        notes = []
        if self.sheared:
            notes.append(f"Gantry tilted by {self.tilt_degrees:.1f}°; slices moved back.")
        if self.interpolated:
            steps = np.diff(self.along_mm)
            notes.append(f"Interpolated: slices {steps.min():.2f} to {steps.max():.2f} mm apart.")
        return tuple(notes)

    @property
    def tilt_degrees(self) -> float:
        """Angle in degrees between the line through the slice positions and the slice normal."""
        across = np.linalg.norm(self.voxel_to_lps[:3, :2], axis=0) * (self.shift[-1] - self.shift[0])
        return float(np.degrees(np.arctan2(np.linalg.norm(across), self.along_mm[-1])))

    @property
    def sheared(self) -> bool:
        """Whether slices must be moved sideways onto the grid."""
        return bool(self.shift.any())

    @property
    def resampled(self) -> bool:
        """Whether voxels of the volume differ from the pixels of the files."""
        return self.interpolated or self.sheared


def plan_grid(slices: Sequence[Instance]) -> VolumeGrid:
    """Plan the regular grid for the slices of a series in which `conversion.series_checks.check_series` found no problem.

    The step of the grid is the mean step where the slices lie on a grid. Else it is that of the finest block, rounded so that the
    last grid slice coincides with the last slice.
    """
    line = slice_positions(slices)
    assert line is not None
    along, way = line.along, line.positions - line.positions[0]
    # cosines in headers are rounded; the axes of the grid are exactly orthonormal
    row = np.median(np.array([one.orientation for one in slices], np.float64), axis=0)[:3]
    row /= np.linalg.norm(row)
    column = np.cross(line.normal, row)
    between_rows, between_columns = np.median(np.array([one.pixel_spacing_mm for one in slices], np.float64), axis=0)

    interpolated = not lies_on_grid(along)
    count = 1 + max(1, round(float(along[-1]) / finest_step_mm(along))) if interpolated else len(along)
    step = along[-1] / (count - 1)

    sideways = np.column_stack([way @ row, way @ column])
    shift = np.zeros_like(sideways)
    if np.abs(sideways).max() > GRID_TOLERANCE_MM:
        # in a tilted stack the sideways distance is proportional to the distance along the normal: the fit removes the rounding
        slope = along @ sideways / (along @ along)
        shift = along[:, None] * slope / (between_columns, between_rows)
        shift[:, np.abs(sideways).max(axis=0) <= GRID_TOLERANCE_MM] = 0.0
    low = np.floor(shift.min(axis=0))
    extra = np.ceil(shift.max(axis=0)) - low

    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 2] = row * between_columns, column * between_rows, line.normal * step
    matrix[:3, 3] = line.positions[0] + matrix[:3, 0] * low[0] + matrix[:3, 1] * low[1]
    shape = (int((slices[0].columns or 0) + extra[0]), int((slices[0].rows or 0) + extra[1]), count)
    return VolumeGrid(tuple(line.order.tolist()), along, shift - low, shape, matrix, interpolated)


def check_grid(grid: VolumeGrid) -> None:
    """Raise `NotAnalysed(IRREGULAR_GEOMETRY)` where the grid would be far larger than a head needs.

    Positions that drift sideways, or a few that lie very close to each other, would take all memory.
    """
    if grid.resampled and math.prod(grid.shape) > LARGEST_GRID:
        columns, rows, count = grid.shape
        raise NotAnalysed(Reason.IRREGULAR_GEOMETRY, f"On a regular grid it would have {columns} x {rows} x {count} voxels.")


def place(image: NDArray[np.int16], shift: NDArray[np.float64], out: NDArray[np.int16]) -> None:
    """Copy a slice onto the grid, shifted by a fraction of a pixel (linear interpolation), with air around it.

    Parameters
    ----------
    image
        HU, shape (rows, columns).
    shift
        (2,) position of its pixel (0, 0) in pixels along columns and rows of `out`; not negative.
    out
        HU, shape (rows, columns) of the grid; overwritten.
    """
    out.fill(AIR_HU)
    whole = np.floor(shift).astype(int)
    part_columns, part_rows = (shift - whole).tolist()
    moved = image
    if part_columns:
        moved = _slide(moved, part_columns)
    if part_rows:
        moved = _slide(moved.T, part_rows).T
    rows, columns = moved.shape
    out[whole[1] : whole[1] + rows, whole[0] : whole[0] + columns] = moved


def _slide(image: NDArray[np.int16], part: float) -> NDArray[np.int16]:
    """Shift by a fraction of a pixel (0 to 1) along the last axis; the result is one pixel longer, with air at both ends."""
    air = np.full((image.shape[0], 1), AIR_HU, np.float32)
    wider = np.concatenate([air, image.astype(np.float32), air], axis=1)
    moved = wider[:, :-1] * np.float32(part) + wider[:, 1:] * np.float32(1 - part)
    return np.rint(moved).astype(np.int16)


def on_grid(grid: VolumeGrid, native: NDArray[np.int16], threads: int) -> NDArray[np.int16]:
    """Shear slices back and interpolate between them (linearly) where the grid needs it.

    Parameters
    ----------
    native
        HU, shape (slices of the series, rows, columns), in the order of `VolumeGrid.order`.

    Returns
    -------
    HU, int16, shape (slices of the grid, rows, columns); `native` itself where there is nothing to do.
    """
    if not grid.resampled:
        return native
    columns, rows, count = grid.shape
    out = np.empty((count, rows, columns), np.int16)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda part: _fill(grid, native, part.tolist(), out), np.array_split(np.arange(count), min(threads, count))))
    return out


def _fill(grid: VolumeGrid, native: NDArray[np.int16], wanted: Sequence[int], out: NDArray[np.int16]) -> None:
    """Compute successive slices of the grid; only two sheared slices are held in memory at a time."""
    if not grid.interpolated:
        for k in wanted:
            place(native[k], grid.shift[k], out[k])
        return
    targets = np.linspace(0.0, grid.along_mm[-1], grid.shape[2])
    below = np.clip(np.searchsorted(grid.along_mm, targets, side="right") - 1, 0, len(native) - 2)
    weights = (targets - grid.along_mm[below]) / np.diff(grid.along_mm)[below]
    held: dict[int, NDArray[np.float32]] = {}
    for k in wanted:
        lower = int(below[k])
        held = {n: held[n] if n in held else _sheared(grid, native, n) for n in (lower, lower + 1)}
        mixed = held[lower] + (held[lower + 1] - held[lower]) * np.float32(weights[k])
        out[k] = np.rint(mixed, out=mixed)


def _sheared(grid: VolumeGrid, native: NDArray[np.int16], n: int) -> NDArray[np.float32]:
    image: NDArray[np.int16] = native[n]
    if not grid.sheared:
        return image.astype(np.float32)
    sheared: NDArray[np.int16] = np.empty((grid.shape[1], grid.shape[0]), np.int16)
    place(image, grid.shift[n], sheared)
    return sheared.astype(np.float32)
