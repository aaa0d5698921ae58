"""All measures of one aligned head (`corewatch.image_measures.ImageMeasures`)."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from conversion.alignment.outline import brain_region, template_edge
from conversion.image_checks.brain_grid import BrainGrid, block_values
from conversion.image_checks.dense_regions import dense_region
from conversion.image_checks.noise import noise_hu
from corewatch.image_measures import ImageMeasures
from corewatch.volumes import AlignedHead

_DENSEST: Final = 99.0
"""Percentile of the deep brain: vessels fill one to two percent of it."""
_NORMAL_DENSEST: Final = 2.326
"""The same percentile of a normal distribution, in standard deviations."""
_LEFT_BY_BLOCKS: Final = 0.55
"""Share of the noise on the network's grid that remains in blocks of 2 mm, measured on noise with a soft kernel's correlation."""


def measure_head(head: AlignedHead) -> ImageMeasures:
    """Measure a head on the network's grid, 0.2 s.

    The ventricles are measured by the alignment, before values are clipped; a head that came aligned has no such figure.
    """
    region = None if head.quality is None else brain_region(head.quality)
    grid = BrainGrid.of(template_edge() if region is None else region)
    blocks, noise = block_values(head.hu), noise_hu(head.hu)
    inside = blocks[(grid.depth_mm < -8.0) & (blocks > 0)]
    brain_hu = float(np.median(inside)) if inside.size else 0.0
    dense = dense_region(blocks, grid, brain_hu)
    csf_hu = None if head.quality is None else head.quality.parts.get("csf_hu")
    return ImageMeasures(
        brain_hu=round(brain_hu, 1),
        csf_hu=csf_hu,
        noise_hu=round(noise, 2),
        enhancement_hu=round(_enhancement(blocks, grid, brain_hu, noise), 1),
        dense=dense,
    )


def _enhancement(blocks: NDArray[np.float32], grid: BrainGrid, brain_hu: float, noise: float) -> float:
    """Excess of the densest percent of the deep brain and its cisterns over the median, without the share of the noise."""
    values = np.array(blocks)
    deep = (grid.depth_mm < -14.0) & (grid.z > -18.0) & (grid.z < 35.0)
    # a compact dense region is no vessel: what remains dense after smoothing over 6 mm does not count
    deep &= gaussian_filter(values, 1.5, truncate=2.0) < brain_hu + 25.0
    if not deep.any():
        return 0.0
    excess = float(np.percentile(values[deep], _DENSEST)) - brain_hu
    return float(np.sqrt(max(0.0, excess * abs(excess) - (_NORMAL_DENSEST * _LEFT_BY_BLOCKS * noise) ** 2)))
