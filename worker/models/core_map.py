"""The core map: where the network's estimate comes from, read from its gradients.

The procedure is that of the published code (Giancardo et al., NeuroImage: Clinical 2023;37:103362), step by step, since thresholds
that people know (`corewatch.findings.CORE_MAP_THRESHOLD`) hold for exactly this map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from corewatch.errors import OperatorNeeded
from corewatch.findings import CORE_MAP_THRESHOLD, Side
from worker.models.hemispheres import HU_SCALE, LEFT, RIGHT, join

SMOOTHING_SD_VOXELS: Final = 1.5
SMOOTHING_TRUNCATE_SD: Final = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class CoreMap:
    """A core map and what decided its side.

    Attributes
    ----------
    voxels
        uint8, (146, 182, 133), network voxels, 0-100; zero on the side without the lesion.
    hemisphere
        uint8, (73, 182, 133), the same before it was given to a side, laid out from the midline outwards.
    darker
        Side whose mean HU within the map's core is lower; NONE where the map has no core or both are exactly alike.
    difference_hu
        By how much it is lower, in HU; 0 where `darker` is NONE.
    """

    voxels: NDArray[np.uint8]
    hemisphere: NDArray[np.uint8]
    darker: Side
    difference_hu: float


def core_map(gradients: NDArray[np.float32], hemispheres: NDArray[np.float32]) -> CoreMap:
    """Make the core map of one case.

    Parameters
    ----------
    gradients
        (2, x, y, z, channels), the gradient of the core volume with respect to the encoder's output for the left and the right
        hemisphere.
    hemispheres
        (2, 73, 182, 133), the network's inputs (`worker.models.hemispheres.split`).

    Raises
    ------
    OperatorNeeded
        Gradients that are no numbers.
    """
    if not np.isfinite(gradients).all():
        raise OperatorNeeded(
            "the model's gradients are no numbers, so there is no core map", "verify it with: corewatch model verify"
        )
    left, right = relevance(gradients[LEFT]), relevance(gradients[RIGHT])
    chosen = right if right.sum() > left.sum() else left
    hemisphere = _smoothed_percent(enlarged(chosen, hemispheres.shape[1:]))

    core = hemisphere > CORE_MAP_THRESHOLD
    both = np.zeros((2, *hemisphere.shape), np.uint8)
    if not core.any():
        return CoreMap(join(both), hemisphere, Side.NONE, 0.0)
    left_hu, right_hu = (float(hemispheres[side][core].mean(dtype=np.float64)) * HU_SCALE for side in (LEFT, RIGHT))
    if left_hu == right_hu:
        return CoreMap(join(both), hemisphere, Side.NONE, 0.0)
    lesion = LEFT if left_hu < right_hu else RIGHT
    both[lesion] = hemisphere
    return CoreMap(join(both), hemisphere, Side.LEFT if lesion == LEFT else Side.RIGHT, abs(left_hu - right_hu))


def relevance(gradient: NDArray[np.float32]) -> NDArray[np.float64]:
    """Weigh a gradient (x, y, z, channels) by its own mean per channel, as Grad-CAM weighs activations; returns (x, y, z), >= 0."""
    exact = gradient.astype(np.float64)  # the result is cut to whole numbers later: float32 would move whole cells by one
    weights = exact.mean(axis=(0, 1, 2))
    mean: NDArray[np.float64] = (np.maximum(exact, 0) * weights).mean(axis=-1)
    return np.maximum(mean, 0)


def enlarged(coarse: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Nearest-neighbour enlargement to `shape`, fine voxel i lies in coarse voxel (i + 0.5) n / N."""
    index = [((2 * np.arange(fine) + 1) * n) // (2 * fine) for n, fine in zip(coarse.shape, shape, strict=True)]
    return coarse[np.ix_(*index)]


def _smoothed_percent(relevance_map: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Scale to 0-100, cut to whole numbers, smooth. Smoothing runs on whole numbers: each axis' result is cut again."""
    largest = relevance_map.max()
    if largest <= 0:
        return np.zeros(relevance_map.shape, np.uint8)
    percent = (relevance_map / largest * 100).astype(np.uint8)
    return ndimage.gaussian_filter(percent, SMOOTHING_SD_VOXELS, truncate=SMOOTHING_TRUNCATE_SD)
