"""Compact dense regions in the skull: clotted blood, in the brain or along the inner table.

Blood is denser than brain and less dense than enhanced vessels, calcification and bone. Vessels of this density are thin, so that
an erosion removes them; places where sinuses, plexus and pineal gland are wide are left out.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter, label

from conversion.image_checks.brain_grid import BLOCK_ML, BrainGrid, ball
from corewatch.findings import Side
from corewatch.image_measures import DenseRegion

_ABOVE_BRAIN_HU: Final = 22.0
"""Enhanced cortex and blurred vessels of the published patient reach 18 HU above the median in places as wide as a small bleed."""
_HIGHEST_HU: Final = 97.0
_BONE_HU: Final = 92.0
_LATERAL_SHARE: Final = 0.7
"""Share of a region on one side of the midline from which a side is named."""

_THREE_MM, _TWO_MM = ball(1.5), ball(1.0)
_REGROWN = ball(2.0)


def dense_region(blocks: NDArray[np.float32], grid: BrainGrid, brain_hu: float) -> DenseRegion | None:
    """The largest compact dense region; None where there is none.

    Parameters
    ----------
    blocks
        Means over blocks of 2 mm, HU 0-100 (`brain_grid.block_values`).
    brain_hu
        Median of the brain.
    """
    smooth = gaussian_filter(blocks, 0.5, truncate=3.0)
    bone = binary_dilation((blocks >= _BONE_HU) & (grid.depth_mm > -6.0), _TWO_MM)
    clotted = (smooth > brain_hu + _ABOVE_BRAIN_HU) & (smooth < _HIGHEST_HU)
    clotted &= ~bone & (grid.depth_mm < 1.0) & (grid.z > -38.0)
    wide, sinuses = _usual_calcifications(grid), _sinuses(grid)
    inner = _largest(binary_erosion(clotted & (grid.depth_mm < -3.0) & ~wide & ~sinuses, _THREE_MM), clotted, _REGROWN)
    along = clotted & ~sinuses & ~_lateral_fissures(grid) & (grid.depth_mm > -16.0)
    layer = _largest(binary_erosion(along, _TWO_MM), along, _THREE_MM)
    regions = [
        DenseRegion(BLOCK_ML * int(region.sum()), _side(region, grid), is_layer)
        for region, is_layer in ((inner, False), (layer, True))
        if region is not None
    ]
    # a region of the brain that reaches the skull is found as a layer too, and smaller: the larger is the whole
    return max(regions, key=lambda region: region.volume_ml * (0.25 if region.layer else 1.0), default=None)


def _largest(core: NDArray[np.bool_], within: NDArray[np.bool_], regrown: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """The largest connected piece of what an erosion left, grown again to the borders that it had."""
    labels, count = label(binary_dilation(core, regrown) & within)
    if not count:
        return None
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest: NDArray[np.bool_] = labels == sizes.argmax()
    return largest


def _side(region: NDArray[np.bool_], grid: BrainGrid) -> Side:
    right = float((region & (grid.x > 0)).sum() / region.sum())
    if right >= _LATERAL_SHARE:
        return Side.RIGHT
    return Side.LEFT if right <= 1 - _LATERAL_SHARE else Side.NONE


def _usual_calcifications(grid: BrainGrid) -> NDArray[np.bool_]:
    """Pineal gland, and choroid plexus in the atria of the lateral ventricles: balls of 10 mm."""
    pineal = grid.x**2 + (grid.y + 27) ** 2 + (grid.z - 3) ** 2 < 100
    plexus = (np.abs(grid.x) - 22) ** 2 + (grid.y + 36) ** 2 + (grid.z - 10) ** 2 < 100
    places: NDArray[np.bool_] = pineal | plexus
    return places


def _lateral_fissures(grid: BrainGrid) -> NDArray[np.bool_]:
    """Where branches of the middle cerebral artery lie side by side along the skull, blurred into a layer."""
    place: NDArray[np.bool_] = (np.abs(grid.x) < 60) & (grid.y > -22) & (grid.y < 25) & (grid.z < 8)
    return place


def _sinuses(grid: BrainGrid) -> NDArray[np.bool_]:
    """Where venous sinuses, the skull base and the slope of the vertex are as dense and as wide as blood would be."""
    sagittal = (np.abs(grid.x) < 9) & (grid.depth_mm > -14)
    transverse = (grid.y < -35) & (grid.z < 10) & (grid.depth_mm > -16)
    base = (grid.z < -8) & (grid.depth_mm > -10)
    vertex = (grid.z > 45) & (grid.depth_mm > -12)
    places: NDArray[np.bool_] = sagittal | transverse | base | vertex
    return places
