"""Aligned phantom heads, as the pipeline would hand them to a network, made quickly: for training and for self-tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from corewatch.findings import Side
from corewatch.geometry import NETWORK_SHAPE, NETWORK_TO_RAS, Matrix
from phantom.head import Blueprint, HeadSpec
from phantom.infarct import CORE_ML_RANGE
from phantom.shapes import Array

RESIDUAL_DEGREES: Final = (1.0, 0.6, 0.6)
"""SD of the rotation about R, A, S that an alignment leaves: nothing in the head fixes its pitch as its symmetry fixes the rest."""

RESIDUAL_MM: Final = (0.6, 1.1, 0.9)
"""SD of the shift along R, A, S that an alignment leaves."""

_NOISE_SIGMA = (0.58, 0.58, 0.48)
"""Voxels. Gives neighbours the correlation (0.4 in the plane, 0.3 along z) that a resampled phantom series has."""

_BLUR_SIGMA = (0.40, 0.60)
"""Voxels. Range of the blur that the scanner's voxels and the resampling leave; 0.45 fits a phantom series best."""


@dataclass(frozen=True, slots=True, eq=False)
class AlignedSample:
    """One labelled example.

    Attributes
    ----------
    hu
        uint8, shape (146, 182, 133), network voxels (L-A-S), HU clipped to 0-100.
    core_ml
        Volume of the core in mL, 0 without.
    side
        Side of the core, the patient's own.
    core_mask
        bool, shape of `hu`.
    """

    hu: NDArray[np.uint8]
    core_ml: float
    side: Side
    core_mask: NDArray[np.bool_]


def random_spec(seed: int, healthy_share: float = 0.35) -> HeadSpec:
    """A spec as training draws them: `healthy_share` without a core, else volumes even on a logarithmic scale, sides even."""
    rng = np.random.default_rng([seed, 4])
    if rng.uniform() < healthy_share:
        return HeadSpec(seed)
    core_ml = float(np.exp(rng.uniform(*np.log(CORE_ML_RANGE))))
    return HeadSpec(seed, core_ml, Side.RIGHT if rng.uniform() < 0.5 else Side.LEFT)


def aligned_sample(
    seed: int,
    spec: HeadSpec | None = None,
    *,
    residual: float = 1.0,
    noise_hu: float | None = None,
) -> AlignedSample:
    """Make one example on the network's grid.

    Parameters
    ----------
    seed
        Chooses misalignment and noise, and the head unless `spec` is given.
    spec
        The head; by default `random_spec(seed)`.
    residual
        Scale of the misalignment; 0 for a perfect one, 1 for `RESIDUAL_DEGREES` and `RESIDUAL_MM`.
    noise_hu
        SD of the noise in HU; by default drawn between 3.5 and 7.5.
    """
    spec = random_spec(seed) if spec is None else spec
    rng = np.random.default_rng([seed, 5])
    misplaced = _misplacement(rng, residual)
    blur, sd = float(rng.uniform(*_BLUR_SIGMA)), float(rng.uniform(3.5, 7.5))
    hu, core = Blueprint.of(spec).on_grid(NETWORK_SHAPE, misplaced @ NETWORK_TO_RAS)
    hu = gaussian_filter(hu, blur, truncate=3.0)
    sd = sd if noise_hu is None else noise_hu
    if sd > 0:
        hu += _noise(rng, sd)
    clipped = np.rint(np.clip(hu, 0, 100)).astype(np.uint8)
    return AlignedSample(clipped, float(np.count_nonzero(core)) / 1000, spec.side, core)


def _misplacement(rng: np.random.Generator, residual: float) -> Matrix:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", rng.normal(0, RESIDUAL_DEGREES) * residual, degrees=True).as_matrix()
    matrix[:3, 3] = rng.normal(0, RESIDUAL_MM) * residual
    return matrix


def _noise(rng: np.random.Generator, sd: float) -> Array:
    """Noise as a soft kernel leaves it after resampling to 1 mm: neighbouring voxels correlate."""
    noise = gaussian_filter(rng.standard_normal(NETWORK_SHAPE, np.float32), _NOISE_SIGMA, truncate=3.0)
    noise *= np.float32(sd / noise.std())
    return noise
