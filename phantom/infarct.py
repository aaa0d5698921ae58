"""The ischemic core: which voxels of the middle cerebral artery's territory it takes, and what it looks like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from corewatch.findings import Side
from phantom.shapes import Array

CORE_ML_RANGE: Final = (5.0, 150.0)
"""Volumes (mL) that a core may be asked to have."""

_CENTRES: Final = ((34.0, 4.0, 6.0), (46.0, 16.0, 16.0), (52.0, -18.0, 2.0), (50.0, -34.0, 26.0), (42.0, -4.0, 30.0))
"""Where cores begin, template RAS mm of the right side: insula and lentiform nucleus, frontal operculum, temporal lobe,
inferior parietal lobule, corona radiata."""


@dataclass(frozen=True, slots=True)
class Infarct:
    """One core's place and looks.

    Attributes
    ----------
    sign
        +1 for the patient's right (x > 0 in RAS), -1 for the left.
    centre, radii
        Where it begins and how it stretches, template mm, on the right side.
    depth_hu
        By how much the core is darker than healthy tissue.
    levelling
        Share of the contrast between grey and white matter that is lost in the core, 0 to 1.
    """

    sign: int
    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    depth_hu: float
    levelling: float


def draw_infarct(seed: int, side: Side) -> Infarct:
    """The core of a seed on `side`."""
    rng = np.random.default_rng([seed, 2])
    centre = np.array(_CENTRES[rng.integers(len(_CENTRES))]) + rng.normal(0, 3.0, 3)
    radii = rng.uniform(0.8, 1.25, 3) * (0.85, 1.15, 1.0)
    return Infarct(
        sign=1 if side is Side.RIGHT else -1,
        centre=(float(centre[0]), float(centre[1]), float(centre[2])),
        radii=(float(radii[0]), float(radii[1]), float(radii[2])),
        depth_hu=float(rng.uniform(6.0, 14.0)),
        levelling=float(rng.uniform(0.5, 0.95)),
    )


def _beyond(excess: Array) -> Array:
    return np.maximum(excess, np.float32(0))


def _outside_territory_mm(x: Array, y: Array, z: Array) -> Array:
    """How far (mm, roughly) a point of the right hemisphere is outside the territory of the middle cerebral artery; 0 inside.

    Borders after the usual maps: the anterior cerebral artery has the medial strip, the posterior one occipital lobe, thalamus and
    the medial and lower temporal lobe.
    """
    medial = _beyond(19 - x) + _beyond(17 + 0.14 * _beyond(z - 10) + 0.12 * _beyond(y - 20) - x)
    occipital = _beyond(-66 - 0.1 * z - y)
    thalamus = _beyond(np.minimum(27 - x, np.minimum(-6 - y, 24 - z)))
    lower = _beyond(-12 - 0.25 * _beyond(y) - z) * 0.7 + _beyond(np.minimum(-10 - y, 46 - x + (-10 - z)) - 4) * (z < -4) * 0.5
    below = _beyond(-8 - z) * (y < -40)
    return np.asarray(medial + occipital + thalamus + lower + below, np.float32)


def core_mask(infarct: Infarct, volume_voxels: int, template: Array, tissue: Array, speckle: Array) -> NDArray[np.bool_]:
    """The `volume_voxels` voxels that the core reaches first.

    Parameters
    ----------
    template
        Template RAS mm of each voxel, shape (3, ...).
    tissue
        Probability of grey plus white matter, 0 to 1: fluid never infarcts.
    speckle
        Rough field of SD 1 that frays the border.
    """
    mask = np.zeros(tissue.shape, bool)
    x = template[0] * infarct.sign
    candidates = np.nonzero((tissue > 0.6) & (x > 2))
    at = [x[candidates], template[1][candidates], template[2][candidates]]
    square = sum(((p - c) / r) ** 2 for p, c, r in zip(at, infarct.centre, infarct.radii, strict=True))
    rank = np.sqrt(square) + 3.0 * _outside_territory_mm(*at) + 5.0 * speckle[candidates]
    if volume_voxels > rank.size:
        raise ValueError(f"a core of {volume_voxels} voxels does not fit into a hemisphere of {rank.size}")
    first = np.argpartition(rank, volume_voxels - 1)[:volume_voxels]
    mask[tuple(index[first] for index in candidates)] = True
    return mask
