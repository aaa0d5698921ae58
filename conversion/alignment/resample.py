"""The one resampling at full resolution: the head on the network's grid."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from conversion.alignment.isotropic import PARTS
from corewatch.geometry import NETWORK_SHAPE, Matrix, apply
from corewatch.volumes import ScannerVolume

_OUTSIDE_HU = -1024


def to_network(volume: ScannerVolume, lps_to_voxel: Matrix, threads: int) -> NDArray[np.uint8]:
    """Resample, linearly, on the network's grid and clip to 0-100 HU.

    Slices much thinner than 1 mm are averaged in pairs or more before, so that no slice is passed over and the noise falls as it
    would on slices of 1 mm. Only the part of the stack that the grid covers is touched. Returns uint8 of shape (146, 182, 133).
    """
    grid_to_scan = np.linalg.inv(volume.voxel_to_lps) @ np.linalg.inv(lps_to_voxel)
    corners = np.array([[(n >> a) & 1 for a in range(3)] for n in range(8)]) * (np.array(NETWORK_SHAPE) - 1)
    reach = apply(grid_to_scan, corners)
    low = np.clip(np.floor(reach.min(axis=0)).astype(int) - 1, 0, volume.hu.shape)
    high = np.clip(np.ceil(reach.max(axis=0)).astype(int) + 2, 0, volume.hu.shape)
    result = np.zeros(NETWORK_SHAPE, np.uint8)
    if (high <= low).any():
        return result
    together = max(1, int(1.0 / float(volume.spacing_mm[2]) + 1e-6))
    together = min(together, int(high[2] - low[2]))
    count = int(high[2] - low[2]) // together
    part = volume.hu[low[0] : high[0], low[1] : high[1], low[2] : low[2] + count * together]
    shrink = np.eye(4)
    shrink[:3, 3] = -low.astype(np.float64)
    shrink[2, 2] = 1 / together
    shrink[2, 3] = -(low[2] + (together - 1) / 2) / together
    to_part = shrink @ grid_to_scan

    with ThreadPoolExecutor(threads) as pool:
        if together > 1:
            merged = np.empty((*part.shape[:2], count), np.int16, order="F")

            def merge(start: int) -> None:
                for k in range(start, count, threads):
                    total = part[:, :, k * together].astype(np.int32)
                    for n in range(1, together):
                        total += part[:, :, k * together + n]
                    merged[:, :, k] = np.clip(total // together, -1024, 3071)

            list(pool.map(merge, range(threads)))
            part = merged

        def fill(rows: slice) -> None:
            offset = to_part[:3, 3] + to_part[:3, 0] * rows.start
            shape = (rows.stop - rows.start, *NETWORK_SHAPE[1:])
            values = affine_transform(
                part, to_part[:3, :3], offset, output_shape=shape, output=np.float32, order=1, mode="constant", cval=_OUTSIDE_HU
            )
            result[rows] = np.rint(np.clip(values, 0, 100)).astype(np.uint8)

        bounds = np.linspace(0, NETWORK_SHAPE[0], PARTS + 1).astype(int)
        list(pool.map(fill, [slice(int(a), int(b)) for a, b in pairwise(bounds)]))
    return result
