"""Outline of the core map on the slices of the source, in the planes that the modality made.

The map is sampled at the position of every source pixel, without a regular grid between: a tilted gantry and irregular steps need
no special case.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from corewatch.findings import CORE_MAP_THRESHOLD
from corewatch.geometry import Matrix, apply, inverse
from corewatch.source_images import SourceImages

_CORNERS = np.array([[(n >> axis) & 1 for axis in range(3)] for n in range(8)])


@dataclass(frozen=True, slots=True, eq=False)
class OutlinedSlices:
    """The source slices that the outline touches.

    Attributes
    ----------
    numbers
        Their indices among the source's slices, ascending.
    masks
        uint8, 1 inside the outline, shape (len(numbers), rows, columns).
    """

    numbers: tuple[int, ...]
    masks: NDArray[np.uint8]

    @property
    def largest(self) -> int:
        """Index of the slice with the largest outlined area."""
        return self.numbers[int(self.masks.sum(axis=(1, 2)).argmax())]


def outline(images: SourceImages, core_map: NDArray[np.uint8], lps_to_voxel: Matrix) -> OutlinedSlices | None:
    """Outline where the core map, interpolated linearly and rounded, is above `CORE_MAP_THRESHOLD`; None where no slice has it.

    Parameters
    ----------
    core_map
        uint8, shape (146, 182, 133), network voxels (L-A-S), 0-100.
    lps_to_voxel
        LPS mm of the source -> network voxel.
    """
    inside = np.nonzero(core_map > CORE_MAP_THRESHOLD)
    if inside[0].size == 0:
        return None
    # an interpolated value is above the threshold only next to a voxel that is
    lowest = np.array([axis.min() for axis in inside]) - 1
    highest = np.array([axis.max() for axis in inside]) + 1
    corners = apply(inverse(lps_to_voxel), lowest + _CORNERS * (highest - lowest))
    numbers, masks = [], []
    for number in range(len(images.slices)):
        pixel_to_lps = images.pixel_to_lps(number)
        mask = _mask(core_map, lps_to_voxel @ pixel_to_lps, apply(inverse(pixel_to_lps), corners), images)
        if mask is not None:
            numbers.append(number)
            masks.append(mask)
    return OutlinedSlices(tuple(numbers), np.stack(masks)) if numbers else None


def _mask(
    core_map: NDArray[np.uint8], pixel_to_voxel: Matrix, corners: NDArray[np.float64], images: SourceImages
) -> NDArray[np.uint8] | None:
    """Mask of one slice, (rows, columns), sampled only in the rectangle that the `corners` (column, row, mm) leave."""
    low, high = np.floor(corners.min(axis=0)).astype(int), np.ceil(corners.max(axis=0)).astype(int) + 1
    if low[2] > 0 or high[2] <= 0:
        return None
    low, high = np.clip(low[:2], 0, None), np.minimum(high[:2], (images.columns, images.rows))
    if (high <= low).any():
        return None
    shape = (int(high[0] - low[0]), int(high[1] - low[1]), 1)
    start = apply(pixel_to_voxel, np.array([*low, 0], np.float64))
    values = affine_transform(core_map, pixel_to_voxel[:3, :3], start, output_shape=shape, output=np.float32, order=1, cval=0.0)
    inside = np.rint(values[:, :, 0].T) > CORE_MAP_THRESHOLD
    if not inside.any():
        return None
    mask = np.zeros((images.rows, images.columns), np.uint8)
    mask[low[1] : high[1], low[0] : high[0]] = inside
    return mask
