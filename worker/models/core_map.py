"""Core map: saliency map of the estimated core volume, from the network's gradients.

Follows the published code step by step (Giancardo et al., NeuroImage: Clinical 2023;37:103362), since published thresholds
(`corewatch.findings.CORE_MAP_THRESHOLD`) are valid for exactly this map.
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
    """A core map and the figures that decide its side.

    Attributes
    ----------
    voxels
        uint8, (146, 182, 133), network voxels, 0-100; zero on the side without the lesion.
    hemisphere
        uint8, (73, 182, 133), the map before it is assigned to a side, from the midline outwards.
    darker
        Side with the lower mean HU within the map's core; NONE where the map has no core or both means are equal.
    difference_hu
        Difference of the two means in HU, >= 0; 0 where `darker` is NONE.
    """

    voxels: NDArray[np.uint8]
    hemisphere: NDArray[np.uint8]
    darker: Side
    difference_hu: float


def core_map(gradients: NDArray[np.float32], hemispheres: NDArray[np.float32]) -> CoreMap:
    """Core map of one head.

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
        A gradient is not finite.
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
    """Weight a gradient (x, y, z, channels) by its mean per channel, as Grad-CAM weights activations; returns (x, y, z), >= 0."""
    exact = gradient.astype(np.float64)  # the result is truncated to integers later: float32 would change whole cells by one
    weights = exact.mean(axis=(0, 1, 2))
    mean: NDArray[np.float64] = (np.maximum(exact, 0) * weights).mean(axis=-1)
    return np.maximum(mean, 0)


def enlarged(coarse: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Nearest-neighbour upsampling to `shape`: fine voxel i is in coarse voxel (i + 0.5) n / N."""
    index = [((2 * np.arange(fine) + 1) * n) // (2 * fine) for n, fine in zip(coarse.shape, shape, strict=True)]
    return coarse[np.ix_(*index)]


def _smoothed_percent(relevance_map: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Scale to 0-100, truncate to integers, smooth. The smoothing works on integers: it truncates again after each axis."""
    largest = relevance_map.max()
    if largest <= 0:
        return np.zeros(relevance_map.shape, np.uint8)
    percent = (relevance_map / largest * 100).astype(np.uint8)
    return ndimage.gaussian_filter(percent, SMOOTHING_SD_VOXELS, truncate=SMOOTHING_TRUNCATE_SD)
