"""Spread of the core volume under small displacements of the head (perturbations).

The network compares left with right voxel by voxel, so its volume depends on the exact position of the midsagittal plane. Alignment
is accurate to about half a millimetre and half a degree at best: the same head shifted by a millimetre or turned by a degree is as
plausible as the analysed placement. The perturbations are fixed, so that the same head always gives the same interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from corewatch.geometry import NETWORK_SHAPE
from worker.models.hemispheres import HU_SCALE

LOWER_QUANTILE: Final = 0.10
UPPER_QUANTILE: Final = 0.90

CENTRE: Final = (np.array(NETWORK_SHAPE) - 1) / 2
"""Centre of rotation, network voxels: the middle of the grid."""


@dataclass(frozen=True, slots=True)
class Perturbation:
    """A rigid displacement of the head on the network's grid.

    Attributes
    ----------
    shift_mm
        Displacement along L, A, S in whole millimetres, which are whole voxels.
    degrees
        Rotation about the axes L (nodding), A (tilting to a shoulder), S (turning), right-handed in (L, A, S) index order.
    """

    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    degrees: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if any(mm != int(mm) for mm in self.shift_mm):
            raise ValueError("a perturbation shifts by whole millimetres")

    def __str__(self) -> str:
        """Text for results: `as analysed`, `1 mm L`, `-1 mm L, -1 degree about S`."""
        parts = [f"{mm:g} mm {axis}" for axis, mm in zip("LAS", self.shift_mm, strict=True) if mm]
        parts += [f"{angle:g} degree about {axis}" for axis, angle in zip("LAS", self.degrees, strict=True) if angle]
        return ", ".join(parts) or "as analysed"

    @property
    def is_identity(self) -> bool:
        """Whether it leaves the head where it is."""
        return not any(self.shift_mm) and not any(self.degrees)


_IDENTITY: Final = Perturbation()
_SIDEWAYS: Final = (Perturbation(shift_mm=(-1.0, 0.0, 0.0)), Perturbation(shift_mm=(1.0, 0.0, 0.0)))
_TURNED: Final = (Perturbation(degrees=(0.0, 0.0, -1.0)), Perturbation(degrees=(0.0, 0.0, 1.0)))
_OTHERS: Final = (
    Perturbation(shift_mm=(0.0, -1.0, 0.0)),
    Perturbation(shift_mm=(0.0, 1.0, 0.0)),
    Perturbation(shift_mm=(0.0, 0.0, -1.0)),
    Perturbation(shift_mm=(0.0, 0.0, 1.0)),
    Perturbation(degrees=(0.0, -1.0, 0.0)),
    Perturbation(degrees=(0.0, 1.0, 0.0)),
    Perturbation(degrees=(-1.0, 0.0, 0.0)),
    Perturbation(degrees=(1.0, 0.0, 0.0)),
    Perturbation(shift_mm=(-1.0, 0.0, 0.0), degrees=(0.0, 0.0, -1.0)),
    Perturbation(shift_mm=(1.0, 0.0, 0.0), degrees=(0.0, 0.0, 1.0)),
)

PERTURBATIONS: Final[dict[int, tuple[Perturbation, ...]]] = {
    0: (),
    5: (_IDENTITY, *_SIDEWAYS, *_TURNED),
    15: (_IDENTITY, *_SIDEWAYS, *_TURNED, *_OTHERS),
}
"""The sets by their size. The small one moves only the midsagittal plane, which the network is most sensitive to."""


def perturbed(hu: NDArray[np.uint8], perturbation: Perturbation) -> NDArray[np.float32]:
    """Displace a head (146, 182, 133), network voxels, HU 0-100; voxels from outside the grid get 0 HU.

    Shifts by whole voxels keep every value. Rotations interpolate with cubic B-splines: the blur of trilinear interpolation alone
    adds about 4 mL to the volume of the published example, which no displacement causes.
    """
    source = hu.astype(np.float32)
    if perturbation.is_identity:
        return source
    # output voxel o is input voxel R^-1 (o - shift - centre) + centre
    inverse = _rotation(perturbation.degrees).T
    offset = CENTRE - inverse @ (CENTRE + np.array(perturbation.shift_mm))
    if not any(perturbation.degrees):
        return _shifted(source, tuple(int(mm) for mm in perturbation.shift_mm))
    if not any(perturbation.degrees[:2]) and perturbation.shift_mm[2] == 0:
        # a rotation about S stays within the slices: the same values in a third of the time
        turned = np.empty_like(source)
        for k in range(source.shape[2]):
            turned[:, :, k] = _cubic(source[:, :, k], inverse[:2, :2], offset[:2])
        return turned
    return _cubic(source, inverse, offset)


def _shifted(source: NDArray[np.float32], voxels: tuple[int, ...]) -> NDArray[np.float32]:
    """Move by whole voxels by copying: interpolation takes thirty times as long for the same values."""
    moved = np.zeros_like(source)
    target = tuple(slice(max(0, v), n + min(0, v)) for v, n in zip(voxels, source.shape, strict=True))
    origin = tuple(slice(max(0, -v), n + min(0, -v)) for v, n in zip(voxels, source.shape, strict=True))
    moved[target] = source[origin]
    return moved


def _cubic(source: NDArray[np.float32], matrix: NDArray[np.float64], offset: NDArray[np.float64]) -> NDArray[np.float32]:
    """Interpolate, and clip the overshoot of the splines at the skull."""
    result = ndimage.affine_transform(source, matrix, offset, order=3, mode="constant", cval=0.0)
    return np.clip(result, 0, HU_SCALE)


def _rotation(degrees: tuple[float, float, float]) -> NDArray[np.float64]:
    """Rotation matrix (3, 3): about L, then A, then S."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        turn = np.eye(3)
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def interval(core_ml: Sequence[float]) -> tuple[float, float]:
    """10-90 % range of core volumes in mL (linear interpolation between the ordered volumes)."""
    low, high = np.quantile(np.asarray(core_ml, np.float64), (LOWER_QUANTILE, UPPER_QUANTILE))
    return float(low), float(high)
