"""Hemispheres: the two inputs of the network, both laid out from the midline outwards."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from corewatch.geometry import MIDLINE_INDEX, NETWORK_SHAPE

HEMISPHERE_SHAPE: Final = (MIDLINE_INDEX, *NETWORK_SHAPE[1:])
"""Shape of one hemisphere in voxels; axes: from the midline outwards, A, S."""

LEFT, RIGHT = 0, 1
"""Index of the patient's left and right hemisphere wherever the two are stacked."""

HU_SCALE: Final = 100.0
"""HU that becomes 1.0 at the network's input."""

_SCALED: Final = (np.arange(256) / HU_SCALE).astype(np.float16).astype(np.float32)
"""Network input for each integer HU; a table takes half the time of the computation."""


def split(hu: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Split an aligned head into the network's inputs.

    Parameters
    ----------
    hu
        Shape (146, 182, 133), network voxels (L-A-S), HU clipped to 0-100.

    Returns
    -------
    NDArray[np.float32]
        Shape (2, 73, 182, 133): left, then right mirrored, so that index 0 of the second axis touches the midline in both.
        HU / 100, rounded through float16 as the published code does.
    """
    scaled = _SCALED[hu] if hu.dtype == np.uint8 else (hu / HU_SCALE).astype(np.float16).astype(np.float32)
    return np.stack([scaled[MIDLINE_INDEX:], scaled[:MIDLINE_INDEX][::-1]])


def join(hemispheres: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Inverse of `split` for maps: (2, 73, 182, 133) -> network's grid (146, 182, 133)."""
    return np.concatenate([hemispheres[RIGHT][::-1], hemispheres[LEFT]])
