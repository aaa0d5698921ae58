"""Resampling of a map from the network's grid to the scanner's slices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from corewatch.geometry import Matrix, apply

_SLICES_AT_ONCE = 16


def map_to_scanner(
    core_map: NDArray[np.uint8], lps_to_voxel: Matrix, volume_shape: tuple[int, int, int], voxel_to_lps: Matrix
) -> NDArray[np.uint8]:
    """Resample a map, linearly, on the scanner's grid.

    Parameters
    ----------
    core_map
        uint8, shape (146, 182, 133), network voxels (L-A-S).
    lps_to_voxel
        Scanner LPS mm -> network voxel, as the alignment found it.
    volume_shape, voxel_to_lps
        The scanner's grid: (columns, rows, slices), and voxel index -> LPS mm.

    Returns
    -------
    uint8 of `volume_shape`, 0 outside the network's grid. Column-major, so that a slice is contiguous.
    """
    result = np.zeros(volume_shape, np.uint8, order="F")
    found = np.nonzero(core_map)
    if found[0].size == 0:
        return result
    scan_to_map = lps_to_voxel @ voxel_to_lps
    lowest = np.array([f.min() for f in found]) - 1
    highest = np.array([f.max() for f in found]) + 1
    corners = np.array([[(n >> a) & 1 for a in range(3)] for n in range(8)])
    map_to_scan: Matrix = np.linalg.inv(scan_to_map).astype(np.float64)
    reach = apply(map_to_scan, lowest + corners * (highest - lowest))
    low = np.clip(np.floor(reach.min(axis=0)).astype(int), 0, volume_shape)
    high = np.clip(np.ceil(reach.max(axis=0)).astype(int) + 1, 0, volume_shape)
    if (high <= low).any():
        return result
    for first in range(int(low[2]), int(high[2]), _SLICES_AT_ONCE):
        box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(first, min(first + _SLICES_AT_ONCE, int(high[2]))))
        start = np.array([s.start for s in box], np.float64)
        shape = tuple(int(s.stop - s.start) for s in box)
        values = affine_transform(
            core_map, scan_to_map[:3, :3], apply(scan_to_map, start), output_shape=shape, output=np.float32, order=1, cval=0.0
        )
        result[box] = np.rint(values).astype(np.uint8)
    return result
