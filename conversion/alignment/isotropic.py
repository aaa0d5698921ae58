"""The scanner's stack made small: block means, then isotropic images along the axes of the patient.

The full stack is read once; everything up to the last resampling works on voxels of 2 mm and more.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conversion.alignment.sampling import memory_order, sample
from corewatch.geometry import LPS_TO_RAS, Matrix, apply
from corewatch.volumes import ScannerVolume

LOWEST_HU, HIGHEST_HU = -200, 400
"""Values are clipped to this range before they are averaged, so that metal and air do not pull their neighbours along."""

_LARGEST_BLOCK = 80
"""Voxels in one block at most: sums of clipped values then fit into int16."""


@dataclass(frozen=True, slots=True, eq=False)
class IsotropicImage:
    """An image whose axes are those of the patient (RAS of the scanner), with cubic voxels.

    Attributes
    ----------
    hu
        float32, shape (R, A, S), clipped to -200..400 HU; `LOWEST_HU` outside the scanner's field of view.
    origin_mm
        Scanner RAS, mm, of the centre of voxel (0, 0, 0).
    step_mm
        Edge of a voxel.
    """

    hu: NDArray[np.float32]
    origin_mm: NDArray[np.float64]
    step_mm: float

    def position_of(self, indices: NDArray[np.generic]) -> NDArray[np.float64]:
        """Voxel index (..., 3) -> scanner RAS mm (..., 3)."""
        return np.asarray(indices, np.float64) * self.step_mm + self.origin_mm


@dataclass(frozen=True, slots=True, eq=False)
class BlockMeans:
    """Means over blocks of voxels: float32, any orientation, with the matrix from block index to scanner RAS mm."""

    hu: NDArray[np.float32]
    to_ras: Matrix

    @property
    def corners_ras(self) -> NDArray[np.float64]:
        """The eight outermost voxel centres, (8, 3), scanner RAS mm."""
        last = np.array(self.hu.shape) - 1
        corners = np.array([[(n >> a) & 1 for a in range(3)] for n in range(8)]) * last
        return apply(self.to_ras, corners)


def block_means(volume: ScannerVolume, step_mm: float, threads: int) -> BlockMeans:
    """Average clipped values over blocks of whole voxels whose edges come closest to `step_mm` without exceeding it by much."""
    factors = [max(1, int(step_mm / s + 0.25)) for s in volume.spacing_mm]
    while np.prod(factors) > _LARGEST_BLOCK:
        factors[int(np.argmax(factors))] -= 1
    kept = [n // f * f for n, f in zip(volume.hu.shape, factors, strict=True)]
    whole = volume.hu[: kept[0], : kept[1], : kept[2]]
    # the axis that moves slowest in memory first: additions then run over contiguous rows
    order = memory_order(whole)
    source = whole.transpose(order)
    block = [factors[a] for a in order]
    sums = np.empty([n // f for n, f in zip(source.shape, block, strict=True)], np.int16)

    def fill(rows: range) -> None:
        for row in rows:
            slab = np.clip(source[row * block[0] : (row + 1) * block[0]], LOWEST_HU, HIGHEST_HU)
            total = slab[0]
            for other in slab[1:]:
                total = total + other
            total = sum((total[n :: block[1]] for n in range(1, block[1])), start=total[:: block[1]])
            sums[row] = sum((total[:, n :: block[2]] for n in range(1, block[2])), start=total[:, :: block[2]])

    parts = [range(n, sums.shape[0], threads) for n in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, parts))
    means = sums.astype(np.float32) / np.float32(np.prod(factors))
    to_ras = LPS_TO_RAS @ volume.voxel_to_lps
    first = (np.array(factors, np.float64) - 1) / 2
    matrix = to_ras @ np.diag([*factors, 1.0])
    matrix[:3, 3] = apply(to_ras, first)
    return BlockMeans(means.transpose([order.index(axis) for axis in range(3)]), matrix)


def isotropic(
    blocks: BlockMeans, step_mm: float, low_mm: NDArray[np.float64], high_mm: NDArray[np.float64], threads: int
) -> IsotropicImage:
    """Resample block means, linearly, on cubic voxels along the patient's axes between two corners (scanner RAS mm)."""
    shape = tuple(int(n) for n in np.ceil((high_mm - low_mm) / step_mm) + 1)
    to_ras = np.diag([step_mm, step_mm, step_mm, 1.0])
    to_ras[:3, 3] = low_mm
    hu = sample(blocks.hu, np.linalg.inv(blocks.to_ras).astype(np.float64) @ to_ras, shape, outside=LOWEST_HU, threads=threads)
    return IsotropicImage(np.ascontiguousarray(hu), np.asarray(low_mm, np.float64), step_mm)
