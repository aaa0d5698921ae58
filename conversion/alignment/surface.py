"""Pose of the head from the shape of its cavity: the inner table fitted to the template's hull.

Rotation, translation and three scales along the template's axes are fitted together by Gauss-Newton steps on the signed distance
of each point from the hull, with weights that fade out what does not belong to it (the skull base, gaps, leaks). The head keeps its
size in the end: only rotation and translation go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from conversion.alignment.template import STEP_MM, Template
from corewatch.geometry import Matrix

_SCALE_MEAN: Final = -0.04
_SCALE_SD: Final = 0.06
_PRIOR_MM: Final = 0.07
"""Prior of the three log scales, head over template (the template is larger than most heads), and its weight: one standard
deviation counts as much as this distance at every point."""
_ROUGH_WIDTHS_MM: Final = (20.0, 20.0, 15.0, 15.0, 10.0, 10.0, 8.0, 8.0, 8.0)
_FINE_WIDTHS_MM: Final = (6.0,) * 4 + (4.0,) * 8
"""Distances at which a point's weight has fallen to a quarter, one Gauss-Newton step each."""
_POINTS_COARSE: Final = 1000
_POINTS_FINE: Final = 12000


@dataclass(frozen=True, slots=True, eq=False)
class SurfaceFit:
    """A fitted pose.

    Attributes
    ----------
    rotation
        (3, 3), scanner RAS -> template RAS.
    translation_mm
        (3,), so that `rotation @ p + translation_mm` is the rigid placement of a scanner point p.
    log_scales
        (3,), head over template along the template's axes.
    residual_mm
        Robust root mean square of the distances.
    inliers
        Share of the points within 4 mm of the hull.
    """

    rotation: NDArray[np.float64]
    translation_mm: NDArray[np.float64]
    log_scales: NDArray[np.float64]
    residual_mm: float
    inliers: float
    cost: float

    @property
    def turned_degrees(self) -> float:
        """Angle between the head and a head upright in the scanner's frame."""
        return float(np.degrees(np.arccos(np.clip((np.trace(self.rotation) - 1) / 2, -1, 1))))

    @property
    def matrix(self) -> Matrix:
        """Scanner RAS mm -> template RAS mm, rigid."""
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = self.rotation, self.translation_mm
        return matrix


class _Problem:
    """Distances and their derivatives for one set of points."""

    def __init__(self, points: NDArray[np.float64], centre: NDArray[np.float64], template: Template) -> None:
        self.arms = points - centre
        self.template = template
        self.gradients = [np.asarray(g, np.float32) for g in np.gradient(template.distance_mm, STEP_MM)]

    def place(self, rotation: NDArray[np.float64], shift: NDArray[np.float64], scales: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points on the template, before `shift` and scale have been parted: (R arm + shift) / exp(scales) + template centre."""
        return (self.arms @ rotation.T + shift) * np.exp(-scales) + self.template.centre_mm

    def distances(self, placed: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        index = ((placed - self.template.origin_mm) / STEP_MM).T
        d = map_coordinates(self.template.distance_mm, index, order=1, mode="nearest")
        g = np.stack([map_coordinates(x, index, order=1, mode="nearest") for x in self.gradients], axis=1)
        return d.astype(np.float64), g.astype(np.float64)


def _fit(
    problem: _Problem,
    rotation: NDArray[np.float64],
    shift: NDArray[np.float64],
    scales: NDArray[np.float64],
    widths_mm: tuple[float, ...],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float, NDArray[np.float64]]:
    d = np.zeros(0)
    cost = 0.0
    for width in widths_mm:
        turned = problem.arms @ rotation.T
        shrink = np.exp(-scales)
        d, g = problem.distances((turned + shift) * shrink + problem.template.centre_mm)
        weight = 1 / (1 + (d / width) ** 2) ** 2
        gs = g * shrink
        jacobian = np.concatenate([np.cross(turned, gs), gs, -(turned + shift) * gs], axis=1)
        weighted = jacobian * weight[:, None]
        prior = np.zeros(9)
        prior[6:] = len(d) * _PRIOR_MM**2 / _SCALE_SD**2
        hessian = weighted.T @ jacobian + np.diag(prior) + np.diag(np.r_[[1.0] * 3, [1e-3] * 3, [1.0] * 3])
        gradient = weighted.T @ d
        gradient[6:] += prior[6:] * (scales - _SCALE_MEAN)
        step = -np.linalg.solve(hessian, gradient)
        step[:3] = np.clip(step[:3], -0.2, 0.2)
        step[6:] = np.clip(step[6:], -0.05, 0.05)
        update = Rotation.from_rotvec(step[:3]).as_matrix()
        rotation, shift, scales = update @ rotation, shift + step[3:6], np.clip(scales + step[6:], -0.25, 0.15)
        cost = float(np.mean(d**2 / (d**2 + width**2)))
    return rotation, shift, scales, cost, d


_STARTS: Final = (
    *((0, 0, 0), (0, 0, 25), (0, 0, -25), (25, 0, 0), (-25, 0, 0), (0, 25, 0), (0, -25, 0)),
    *((pitch, roll, yaw) for pitch in (-22, 22) for roll in (-15, 15) for yaw in (-15, 15)),
)
"""Rotations about R, A, S in degrees: upright, and as patients lie."""

_TURNED_STARTS: Final = (
    *((90, 0, yaw) for yaw in (0, 180)),
    *((-90, 0, yaw) for yaw in (0, 180)),
    *((0, roll, 0) for roll in (90, -90, 180)),
    *((0, 0, yaw) for yaw in (90, -90, 180)),
    (180, 0, 0),
)
"""As a head seems to lie where the header is wrong about the patient's position."""


def fit_surface(points_mm: NDArray[np.float64], centre_mm: NDArray[np.float64], template: Template) -> SurfaceFit:
    """Fit the hull from many starts and refine the best.

    Starts that no patient can take are tried too: where one of them wins, the position in the header is wrong, and the angle of
    the pose says so.
    """
    coarse = _Problem(points_mm[:: max(1, len(points_mm) // _POINTS_COARSE)], centre_mm, template)
    scales = np.full(3, _SCALE_MEAN)
    rough = []
    for angles in _STARTS + _TURNED_STARTS:
        rotation = np.asarray(Rotation.from_euler("xyz", angles, degrees=True).as_matrix())
        rough.append(_fit(coarse, rotation, np.zeros(3), scales, _ROUGH_WIDTHS_MM))
    best = min(rough, key=lambda f: f[3])
    fine = _Problem(points_mm[:: max(1, len(points_mm) // _POINTS_FINE)], centre_mm, template)
    rotation, shift, scales, cost, d = _fit(fine, best[0], best[1], best[2], _FINE_WIDTHS_MM)
    return SurfaceFit(
        rotation,
        _rigid_translation(rotation, shift, scales, centre_mm, template),
        scales,
        float(np.sqrt(np.mean(np.minimum(d**2, 16.0)))),
        float(np.mean(np.abs(d) < 4.0)),
        cost,
    )


def _rigid_translation(
    rotation: NDArray[np.float64],
    shift: NDArray[np.float64],
    scales: NDArray[np.float64],
    centre_mm: NDArray[np.float64],
    template: Template,
) -> NDArray[np.float64]:
    """Keep the point of the head that the scaled fit puts on the template's centre there, and drop the scales."""
    return template.centre_mm + shift - rotation @ centre_mm
