"""Pitch and height of the head from what lies inside the brain: ventricles and cisterns against the template's.

The midsagittal plane is left where symmetry put it; three parameters are fitted: shift along y and z, and pitch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from conversion.alignment.isotropic import BlockMeans
from conversion.alignment.sampling import sample
from conversion.alignment.template import SMOOTHING_MM, STEP_MM, Template
from corewatch.geometry import Matrix

_BRAIN_HU: Final = (-10.0, 90.0)
_DEPTH_MM: Final = 6.0
_STRIDE: Final = 3
_STEPS: Final = 7
_FEWEST: Final = 100
"""Fewest points for a correlation."""
_WIDTH_HU: Final = 8.0
_PRIOR: Final = 1.0
"""Pull back to the pose that the skull gave, relative to the pull of the brain: large ventricles or a swollen hemisphere sit
elsewhere than the template's, while the skull stays. Ventricles alone put the mean CT of 30 adults (mean age 65) 4.2 mm off its
place, the skull alone 2.1 mm; for the published patient it is 1.6 and 2.5 mm. Equal pulls serve both."""


@dataclass(frozen=True, slots=True, eq=False)
class ParenchymaFit:
    """A pose refined by the inside of the brain, and how well that inside agrees with the template's.

    Attributes
    ----------
    pose
        Scanner RAS mm -> template RAS mm, rigid.
    correlation
        Between the smoothed head and the template inside the brain, -1 to 1: of the whole or of the better hemisphere, since a
        large haemorrhage on one side hides the likeness there.
    """

    pose: Matrix
    correlation: float


def fit_parenchyma(
    blocks: BlockMeans, pose: Matrix, log_scales: NDArray[np.float64], template: Template, threads: int
) -> ParenchymaFit:
    """Refine a pose; `log_scales` are the head's over the template's, and stay as they are."""
    shape = template.distance_mm.shape
    # the head on the template's voxels, scales included, so that only a small motion is left
    to_ras = np.diag([STEP_MM, STEP_MM, STEP_MM, 1.0])
    to_ras[:3, 3] = template.origin_mm
    to_block = np.linalg.inv(blocks.to_ras) @ np.linalg.inv(pose) @ _scaling(log_scales, template) @ to_ras
    image = np.ascontiguousarray(sample(blocks.hu, to_block, shape, outside=-1000.0, threads=threads))
    brain = ((image > _BRAIN_HU[0]) & (image < _BRAIN_HU[1])).astype(np.float32)
    sigma = SMOOTHING_MM / STEP_MM
    share = gaussian_filter(brain, sigma, truncate=3.0)
    smooth = gaussian_filter(brain * image, sigma, truncate=3.0) / np.maximum(share, 1e-3)
    gradients = [np.asarray(g, np.float32) for g in np.gradient(smooth, STEP_MM)]

    inside = np.argwhere(template.distance_mm < -_DEPTH_MM)[::_STRIDE]
    points = inside * STEP_MM + template.origin_mm - template.centre_mm
    target = template.ct_hu[tuple(inside.T)].astype(np.float64)
    y, z, pitch = 0.0, 0.0, 0.0
    value, seen = target, np.ones(len(target), bool)
    prior = np.zeros(3)
    for step_number in range(_STEPS):
        turn = np.asarray(Rotation.from_rotvec([pitch, 0.0, 0.0]).as_matrix())
        arm = points @ turn.T
        index = ((arm + template.centre_mm + np.array([0.0, y, z]) - template.origin_mm) / STEP_MM).T
        value = map_coordinates(smooth, index, order=1, mode="nearest").astype(np.float64)
        slope = [map_coordinates(g, index, order=1, mode="nearest").astype(np.float64) for g in gradients[1:]]
        seen = map_coordinates(share, index, order=1, mode="nearest") > 0.5
        gain, level = _line(target, value, seen)
        residual = value - (gain * target + level)
        weight = seen / (1 + (residual / _WIDTH_HU) ** 2) ** 2
        jacobian = np.stack([slope[0], slope[1], slope[1] * arm[:, 1] - slope[0] * arm[:, 2]], axis=1)
        weighted = jacobian * weight[:, None]
        hessian = weighted.T @ jacobian
        if step_number == 0:
            prior = _PRIOR * np.diag(hessian) + np.array([1.0, 1.0, 1000.0])
        hessian = hessian + np.diag(prior)
        step = -np.linalg.solve(hessian, weighted.T @ residual + prior * np.array([y, z, pitch]))
        step = np.clip(step, [-3, -3, -0.05], [3, 3, 0.05])
        y, z, pitch = y + float(step[0]), z + float(step[1]), pitch + float(step[2])
    moved = np.eye(4)
    moved[:3, :3] = np.asarray(Rotation.from_rotvec([pitch, 0.0, 0.0]).as_matrix())
    moved[:3, 3] = template.centre_mm - moved[:3, :3] @ template.centre_mm + np.array([0.0, y, z]) * np.exp(log_scales)
    sides = (seen, seen & (points[:, 0] > 0), seen & (points[:, 0] < 0))
    return ParenchymaFit(np.linalg.inv(moved) @ pose, max(_correlation(target, value, side) for side in sides))


def _scaling(log_scales: NDArray[np.float64], template: Template) -> Matrix:
    """Template RAS mm -> the same place in a head of the fitted size, about the template's centre."""
    matrix = np.diag([*np.exp(log_scales), 1.0])
    matrix[:3, 3] = template.centre_mm * (1 - np.exp(log_scales))
    return matrix


def _bounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Clip to the middle 98 %, so that clots and calcifications do not set the level."""
    low, high = np.percentile(values, [1, 99])
    return np.clip(values, low, high)


def _line(target: NDArray[np.float64], value: NDArray[np.float64], seen: NDArray[np.bool_]) -> tuple[float, float]:
    """Gain and level of value = gain * target + level; the gain is never below a small positive one."""
    if np.count_nonzero(seen) < _FEWEST:
        return 1.0, 0.0
    t, v = target[seen], _bounded(value[seen])
    covariance = np.cov(t, v)
    gain = max(float(covariance[0, 1] / covariance[0, 0]), 0.1)
    return gain, float(v.mean() - gain * t.mean())


def _correlation(target: NDArray[np.float64], value: NDArray[np.float64], seen: NDArray[np.bool_]) -> float:
    if np.count_nonzero(seen) < _FEWEST:
        return 0.0
    covariance = np.cov(target[seen], _bounded(value[seen]))
    power = float(covariance[0, 0] * covariance[1, 1])
    return float(covariance[0, 1]) / power**0.5 if power > 0 else 0.0
