"""How one phantom differs from the next: size, shape, skull and densities, all drawn from its seed.

A head is described by pulling every point of the head back to the template (`Variation.to_template`). The deformation is symmetric
about x = 0 except for a small part that vanishes there, so that the midsagittal plane of every phantom stays x = 0 and the right
alignment stays the identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from corewatch.geometry import Matrix, apply
from phantom.shapes import Array

CENTRE: Final = np.array([0.0, -18.0, 8.0])
"""RAS mm of the point that keeps its place: about the centre of the template's brain."""

_BOX_LOWER = np.array([-112.0, -164.0, -240.0])
_BOX_UPPER = np.array([112.0, 164.0, 128.0])
_LATTICE_STEP = 5
"""Voxels between the points at which the smooth fields are computed; linear in between."""


class Waves:
    """A smooth random function of space: cubic B-spline over normal deviates; SD about 1."""

    def __init__(self, rng: np.random.Generator, spacing_mm: float, parity: int = 0) -> None:
        """`parity` +1: mirror images about x = 0 have equal values, -1: opposite values, 0: unrelated."""
        half = np.ceil((_BOX_UPPER - _BOX_LOWER) / 2 / spacing_mm).astype(int) + 1
        lattice = rng.standard_normal(2 * half + 1)
        if parity:
            lattice = (lattice + parity * lattice[::-1]) / np.sqrt(2)
        self._lattice = lattice * 1.7  # the spline averages neighbours
        self._spacing = spacing_mm
        self._centre = half - np.array([0.0, 0.0, -56.0]) / spacing_mm

    def at(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values at `points` (..., 3), RAS mm."""
        index = points / self._spacing + self._centre
        return np.asarray(map_coordinates(self._lattice, np.moveaxis(index, -1, 0), order=3, mode="nearest", prefilter=False))


@dataclass(frozen=True, slots=True)
class Densities:
    """HU of one phantom's tissues with contrast medium in them."""

    grey: float
    white: float
    fluid: float
    artery: float
    vein: float
    bone: float
    scalp_fat: float


class Variation:
    """The anatomy of one seed."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 1])
        common = np.clip(rng.normal(0.945, 0.025), 0.89, 1.01)
        self.scale: NDArray[np.float64] = np.clip(common * rng.normal(1.0, 0.018, 3), 0.88, 1.04)
        """Size relative to the template along R, A, S."""
        self.skull_mm = float(np.clip(rng.normal(6.3, 0.9), 4.5, 9.0))
        self.scalp_mm = float(np.clip(rng.normal(5.5, 1.0), 3.5, 8.0))
        self.rim_mm = float(rng.uniform(-0.8, 1.4))
        """From the outermost voxels of the template's brain to the skull; they hold some fluid themselves."""
        self.ventricles_mm = float(rng.uniform(-1.0, 3.2))
        """By how much each side of the ventricles is wider than the template's."""
        self.atrophy = float(rng.uniform(-0.06, 0.16))
        """Widens the sulci: what is added to the probability below which a voxel counts as fluid."""
        white = rng.normal(31.0, 1.5)
        self.densities = Densities(
            grey=white + rng.normal(9.5, 1.0),
            white=white,
            fluid=rng.normal(9.0, 1.5),
            artery=float(np.clip(rng.normal(330, 45), 230, 450)),
            vein=float(np.clip(rng.normal(190, 45), 90, 300)),
            bone=rng.normal(1250, 120),
            scalp_fat=rng.normal(-85, 10),
        )
        self._broad = [Waves(rng, 42.0, parity) for parity in (-1, 1, 1)]
        self._fine = [Waves(rng, 17.0, parity) for parity in (-1, 1, 1)]
        self._uneven = [Waves(rng, 34.0) for _ in range(3)]
        self._skull, self._shade, self._speckle = Waves(rng, 40.0), Waves(rng, 55.0), Waves(rng, 14.0)

    def to_template(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points of this head (..., 3), RAS mm, to the template's points (..., 3)."""
        pulled: NDArray[np.float64] = (points - CENTRE) / self.scale + CENTRE
        x, y, z = np.moveaxis(points, -1, 0)
        near_ventricles = np.exp(-((x / 30) ** 2) - ((y + 15) / 45) ** 2 - ((z - 14) / 22) ** 2)
        pulled[..., 0] -= self.ventricles_mm * x / (np.abs(x) + 6) * near_ventricles
        beside = np.clip(np.abs(points[..., 0]) / 25.0, 0.0, 1.0)
        for axis in range(3):
            shift = 2.2 * self._broad[axis].at(points) + 0.9 * self._fine[axis].at(points)
            shift += 0.7 * beside * self._uneven[axis].at(points)
            pulled[..., axis] += shift
        return pulled

    def from_template(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points of the template (..., 3), RAS mm, to this head's points: the inverse of `to_template`, within 0.1 mm."""
        there: NDArray[np.float64] = (points - CENTRE) * self.scale + CENTRE
        for _ in range(5):
            there = there + (points - self.to_template(there)) * self.scale
        return there

    def thickness_mm(self, points: NDArray[np.float64], template: NDArray[np.float64]) -> NDArray[np.float64]:
        """Thickness of the skull (mm) at points of this head that lie at `template` in the template.

        Thick at the vault and the occiput, thin at the temples and the base; it ends at the foramen magnum.
        """
        x, y, z = np.moveaxis(template, -1, 0)
        temple = np.exp(-(((np.abs(x) - 66) / 18) ** 2) - ((y - 8) / 32) ** 2 - ((z + 12) / 24) ** 2)
        occiput = np.exp(-((x / 30) ** 2) - ((y + 108) / 22) ** 2 - ((z + 20) / 26) ** 2)
        base = np.clip((-6 - z) / 22, 0, 1) * np.clip((y + 40) / 30, 0, 1)
        brow = np.exp(-((x / 34) ** 2) - ((y - 74) / 16) ** 2 - ((z + 2) / 18) ** 2)
        thickness = (
            self.skull_mm * (1 + 0.12 * self._skull.at(points)) * (1 - 0.5 * temple - 0.5 * base) + 4.0 * occiput + 3.0 * brow
        )
        return np.asarray(thickness * np.clip((z + 76) / 12, 0, 1))

    def shade_hu(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Slow drift of the HU across the head (residual beam hardening, scatter), SD about 1 HU."""
        return self._shade.at(points)

    def speckle(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """A rough field without unit (SD about 1) that frays the edge of the core."""
        return self._speckle.at(points)


@dataclass(frozen=True, slots=True, eq=False)
class Pulled:
    """The smooth fields of a variation on a grid of voxels; each float32 of the grid's shape, `template` with (3,) in front."""

    template: Array
    thickness_mm: Array
    shade_hu: Array
    speckle: Array


def pull(variation: Variation, shape: tuple[int, int, int], voxel_to_ras: Matrix) -> Pulled:
    """Evaluate a variation's smooth fields on the grid of `shape` voxels at `voxel_to_ras` (RAS mm of the head)."""
    knots = [np.append(np.arange(0, n - 1, _LATTICE_STEP), n - 1).astype(float) for n in shape]
    points = apply(voxel_to_ras, np.stack(np.meshgrid(*knots, indexing="ij"), axis=-1))
    template = variation.to_template(points)
    channels = [
        *np.moveaxis(template, -1, 0),
        variation.thickness_mm(points, template),
        variation.shade_hu(points),
        variation.speckle(points),
    ]
    lattice = np.stack(channels).astype(np.float32)
    along = [_linear(k, n) for k, n in zip(knots, shape, strict=True)]
    full = lattice @ along[2].T
    full = along[1] @ full
    full = np.matmul(along[0], full.reshape(len(channels), len(knots[0]), -1)).reshape(len(channels), *shape)
    return Pulled(full[:3], full[3], full[4], full[5])


def _linear(knots: NDArray[np.float64], length: int) -> Array:
    """Matrix (length, knots) that interpolates linearly from `knots` to 0, 1, ..., length - 1."""
    return np.stack([np.interp(np.arange(length), knots, row) for row in np.eye(len(knots))], axis=1).astype(np.float32)
