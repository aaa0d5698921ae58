"""How the slices of a checked series make one regular grid: order, axes, shear of a tilted gantry, resampling of irregular steps.

Everything here follows from positions and orientations (PS3.3 C.7.6.2.1.1), before a single pixel is decoded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from conversion.series_checks import POSITION_TOLERANCE_MM, Orientation, common_normal, is_regular
from corewatch.errors import NotAnalysed
from corewatch.geometry import Matrix
from corewatch.instance import Instance
from corewatch.reasons import Reason
from corewatch.spacing import finest_step_mm

LARGEST_GRID: Final = 1 << 30
"""Voxels of a grid that slices are moved or interpolated onto; a head of 0.3 mm needs less than half of it."""

AIR_HU: Final = -1000
"""What stands where nothing was measured."""


@dataclass(frozen=True, slots=True, eq=False)
class VolumeGrid:
    """The plan of a volume.

    Attributes
    ----------
    order
        Index of each slice in the given sequence, ascending along the normal.
    along_mm
        (n,) distance of each slice from the first along the normal.
    shift
        (n, 2) where pixel (0, 0) of each slice falls on the grid, in pixels along columns and rows. All zero but for a tilted
        gantry, whose slices slide sideways from one to the next.
    shape
        (columns, rows, slices) of the grid. Larger than the images where slices slide, so that nothing is cut off.
    voxel_to_lps
        Grid index -> LPS mm; its third axis is the slice normal, so the axes are orthogonal and right-handed.
    regular
        Whether slice n of the grid is slice n of the series; else the grid is interpolated.
    """

    order: tuple[int, ...]
    along_mm: NDArray[np.float64]
    shift: NDArray[np.float64]
    shape: tuple[int, int, int]
    voxel_to_lps: Matrix
    regular: bool

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of how the slices were laid onto the grid; each fits into a line of a page."""
        notes = []
        if self.sheared:
            notes.append(f"Gantry tilted by {self.tilt_degrees:.1f}°; slices moved back.")
        if not self.regular:
            steps = np.diff(self.along_mm)
            notes.append(f"Interpolated: slices {steps.min():.2f} to {steps.max():.2f} mm apart.")
        return tuple(notes)

    @property
    def tilt_degrees(self) -> float:
        """Angle between the way of the slices and their normal."""
        across = np.linalg.norm(self.voxel_to_lps[:3, :2], axis=0) * (self.shift[-1] - self.shift[0])
        return float(np.degrees(np.arctan2(np.linalg.norm(across), self.along_mm[-1])))

    @property
    def sheared(self) -> bool:
        """Whether slices must be moved sideways onto the grid."""
        return bool(self.shift.any())


def plan_grid(slices: Sequence[Instance]) -> VolumeGrid:
    """Lay the slices of a series without problems (`conversion.checks.check_series`) onto a regular grid.

    The step is the mean one where the slices are regular, else that of the finest block, rounded so that the last slice is met.
    """
    orientation = np.median(np.array([one.orientation for one in slices], np.float64), axis=0)
    positions = np.array([one.position_lps for one in slices], np.float64)
    row, column, normal = _axes(orientation)
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    way = positions - positions[0]
    along = way @ normal
    between_rows, between_columns = np.median(np.array([one.pixel_spacing_mm for one in slices], np.float64), axis=0)

    regular = is_regular(along)
    count = len(along) if regular else 1 + max(1, round(float(along[-1]) / finest_step_mm(along)))
    step = along[-1] / (count - 1)

    sideways = np.column_stack([way @ row, way @ column])
    shift = np.zeros_like(sideways)
    if np.abs(sideways).max() > POSITION_TOLERANCE_MM:
        # the sideways way of a tilted stack is proportional to the way along the normal: fitting it takes the rounding out
        slope = along @ sideways / (along @ along)
        shift = along[:, None] * slope / (between_columns, between_rows)
        shift[:, np.abs(sideways).max(axis=0) <= POSITION_TOLERANCE_MM] = 0.0
    low = np.floor(shift.min(axis=0))
    extra = np.ceil(shift.max(axis=0)) - low

    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 2] = row * between_columns, column * between_rows, normal * step
    matrix[:3, 3] = positions[0] + matrix[:3, 0] * low[0] + matrix[:3, 1] * low[1]
    shape = (int((slices[0].columns or 0) + extra[0]), int((slices[0].rows or 0) + extra[1]), count)
    return VolumeGrid(tuple(order.tolist()), along, shift - low, shape, matrix, regular)


def check_grid(stack: VolumeGrid) -> None:
    """Raise `NotAnalysed(IRREGULAR_GEOMETRY)` where the grid would be out of all proportion to a head.

    Positions that drift sideways, or a few that lie very close to each other, would ask for all memory.
    """
    if not (stack.regular and not stack.sheared) and math.prod(stack.shape) > LARGEST_GRID:
        columns, rows, count = stack.shape
        raise NotAnalysed(Reason.IRREGULAR_GEOMETRY, f"On a regular grid it would have {columns} x {rows} x {count} voxels.")


def _axes(orientation: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Row, column and normal direction, LPS, made exactly orthonormal: written cosines are rounded."""
    values: Orientation = tuple(orientation.tolist())
    normal = common_normal([values])
    row = orientation[:3] / np.linalg.norm(orientation[:3])
    return row, np.cross(normal, row), normal


def place(image: NDArray[np.int16], shift: NDArray[np.float64], out: NDArray[np.int16]) -> None:
    """Lay a slice onto the grid, moved sideways by a part of a pixel (linear interpolation), air around it.

    Parameters
    ----------
    image
        HU, shape (rows, columns).
    shift
        (2,) where its pixel (0, 0) falls, in pixels along columns and rows of `out`; not negative.
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
    """Move by a part of a pixel (0 to 1) along the last axis: one pixel longer than `image`, air coming in at both ends."""
    air = np.full((image.shape[0], 1), AIR_HU, np.float32)
    wider = np.concatenate([air, image.astype(np.float32), air], axis=1)
    moved = wider[:, :-1] * np.float32(part) + wider[:, 1:] * np.float32(1 - part)
    return np.rint(moved).astype(np.int16)


def on_grid(stack: VolumeGrid, native: NDArray[np.int16], threads: int) -> NDArray[np.int16]:
    """Shear slices back and interpolate between them (linearly) where the stack asks for it.

    Parameters
    ----------
    native
        HU, shape (slices of the series, rows, columns), in the order of the stack.

    Returns
    -------
    HU, int16, shape (slices of the grid, rows, columns); `native` itself where there is nothing to do.
    """
    if stack.regular and not stack.sheared:
        return native
    columns, rows, count = stack.shape
    out = np.empty((count, rows, columns), np.int16)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda part: _fill(stack, native, part.tolist(), out), np.array_split(np.arange(count), min(threads, count))))
    return out


def _fill(stack: VolumeGrid, native: NDArray[np.int16], wanted: Sequence[int], out: NDArray[np.int16]) -> None:
    """Make some successive slices of the grid; of the sheared slices only two are held at a time."""
    if stack.regular:
        for k in wanted:
            place(native[k], stack.shift[k], out[k])
        return
    targets = np.linspace(0.0, stack.along_mm[-1], stack.shape[2])
    below = np.clip(np.searchsorted(stack.along_mm, targets, side="right") - 1, 0, len(native) - 2)
    weights = (targets - stack.along_mm[below]) / np.diff(stack.along_mm)[below]
    held: dict[int, NDArray[np.float32]] = {}
    for k in wanted:
        lower = int(below[k])
        held = {n: held[n] if n in held else _sheared(stack, native, n) for n in (lower, lower + 1)}
        mixed = held[lower] + (held[lower + 1] - held[lower]) * np.float32(weights[k])
        out[k] = np.rint(mixed, out=mixed)


def _sheared(stack: VolumeGrid, native: NDArray[np.int16], n: int) -> NDArray[np.float32]:
    image: NDArray[np.int16] = native[n]
    if not stack.sheared:
        return image.astype(np.float32)
    sheared: NDArray[np.int16] = np.empty((stack.shape[1], stack.shape[0]), np.int16)
    place(image, stack.shift[n], sheared)
    return sheared.astype(np.float32)
