"""The one resampling at full resolution: the head on the network's grid."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from conversion.alignment.sampling import PARTS, memory_order, sample
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
    if (high <= low).any():
        return np.zeros(NETWORK_SHAPE, np.uint8)
    part = volume.hu[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    together = min(max(1, int(1.0 / float(volume.spacing_mm[2]) + 1e-6)), part.shape[2])
    if together > 1:
        part = _merged(part, together, threads)
    shrink = np.diag([1.0, 1.0, 1 / together, 1.0])
    shrink[:3, 3] = (-low[0], -low[1], -(low[2] + (together - 1) / 2) / together)
    values = sample(part, shrink @ grid_to_scan, NETWORK_SHAPE, outside=_OUTSIDE_HU, threads=threads)
    return np.ascontiguousarray(np.rint(np.clip(values, 0, 100)).astype(np.uint8))


def _merged(part: NDArray[np.int16], together: int, threads: int) -> NDArray[np.int16]:
    """Means of neighbouring slices, rounded; slices that are left over at the end are dropped."""
    count = part.shape[2] // together
    slow_last = memory_order(part)[0] == 2
    merged = np.empty((*part.shape[:2], count), np.int16, order="F" if slow_last else "C")

    def fill(rows: slice) -> None:
        here = (slice(None), slice(None), rows) if slow_last else (rows, slice(None), slice(None))
        start, stop = (rows.start, rows.stop) if slow_last else (0, count)
        source = part if slow_last else part[rows]
        total = np.zeros(merged[here].shape, np.int32, order="F" if slow_last else "C")
        for n in range(together):
            total += source[:, :, start * together + n : stop * together : together]
        # floor division would shift everything by half a unit
        merged[here] = (total + together // 2) // together

    length = count if slow_last else merged.shape[0]
    bounds = np.unique(np.linspace(0, length, PARTS + 1).astype(int))
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, [slice(int(a), int(b)) for a, b in pairwise(bounds)]))
    return merged
