"""Noise of an aligned head: the standard deviation within small pieces of even tissue."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

_SIZE: Final = 5
"""Edge of a piece in mm. Smaller ones hold too few independent values: neighbours correlate."""
_QUANTILE: Final = 20
"""Percentile of the pieces' standard deviations: pieces with an edge of tissue vary more."""
_CENTRE: Final = (slice(30, 116), slice(35, 147), slice(55, 110))
"""The brain's middle, network voxels: no skull in any head, and time for a sixth of the grid only."""
_EVEN_HU: Final = (5.0, 95.0)
"""Means of a piece that are neither fluid nor air nor bone: clipping at 0 and 100 would hide noise there."""


def noise_hu(hu: NDArray[np.uint8]) -> float:
    """Standard deviation of the noise in HU of a head on the network's grid; within 10 % up to 20 HU, too small above.

    Measured against added noise of 3 to 50 HU: 15 HU reads 13 to 14, 30 HU 23 to 25.
    """
    values = hu[_CENTRE].astype(np.float32)
    mean = uniform_filter(values, _SIZE)
    spread = np.sqrt(np.maximum(uniform_filter(values * values, _SIZE) - mean * mean, 0.0))
    even = (mean > _EVEN_HU[0]) & (mean < _EVEN_HU[1])
    return float(np.percentile(spread[even], _QUANTILE)) if even.any() else 0.0
