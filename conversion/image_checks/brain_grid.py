"""The brain of an aligned head on blocks of 2 mm: where it lies, how deep, and the means of its values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from corewatch.geometry import NETWORK_SHAPE, NETWORK_TO_RAS
from corewatch.volumes import Surface

STEP: Final = 2
"""Network voxels along each edge of a block; 1 voxel is 1 mm."""

SHAPE: Final = tuple((n + 1) // STEP for n in NETWORK_SHAPE)

BLOCK_ML: Final = STEP**3 / 1000


@dataclass(frozen=True, slots=True, eq=False)
class BrainGrid:
    """Place of every block of an aligned head.

    Attributes
    ----------
    depth_mm
        float32, shape (73, 91, 67), axes L-A-S: signed distance from the hull of the brain, negative inside.
    x, y, z
        RAS mm of the template, broadcastable to the shape of `depth_mm`.
    """

    depth_mm: NDArray[np.float32]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    z: NDArray[np.float64]

    @classmethod
    def of(cls, hull: Surface) -> BrainGrid:
        """The grid with the hull of the brain, at the head's size where that is known (`conversion.alignment.outline`)."""
        block_to_network = np.diag([STEP, STEP, STEP, 1.0])
        block_to_network[:3, 3] = (STEP - 1) / 2
        to_index, to_ras = hull.network_to_index @ block_to_network, NETWORK_TO_RAS @ block_to_network
        depth = affine_transform(hull.depth_mm, to_index[:3, :3], to_index[:3, 3], SHAPE, order=1, mode="nearest")
        x, y, z = (np.arange(n) * to_ras[axis, axis] + to_ras[axis, 3] for axis, n in enumerate(SHAPE))
        return cls(depth.astype(np.float32), x[:, None, None], y[None, :, None], z[None, None, :])


def block_values(hu: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Means of an aligned head (146, 182, 133) over blocks of 2 mm, float32, shape (73, 91, 67)."""
    padded = np.pad(hu, [(0, -n % STEP) for n in hu.shape], mode="edge").astype(np.float32)
    i, j, k = SHAPE
    means: NDArray[np.float32] = padded.reshape(i, STEP, j, STEP, k, STEP).mean(axis=(1, 3, 5))
    return means


def ball(radius: float) -> NDArray[np.bool_]:
    """A ball as a structuring element, `radius` in blocks."""
    reach = int(np.ceil(radius))
    inside: NDArray[np.bool_] = np.square(np.indices((2 * reach + 1,) * 3) - reach).sum(axis=0) <= radius**2 + 0.01
    return inside
