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
_PRIOR_MM: Final = 0.4
"""Prior of the three log scales, head over template (the template is larger than most heads), and its weight: one standard
deviation counts as much as this distance at every point."""
_ROUGH_WIDTHS_MM: Final = (20.0, 20.0, 15.0, 15.0, 10.0, 10.0, 8.0, 8.0, 8.0)
_FINE_WIDTHS_MM: Final = (6.0,) * 4 + (4.0,) * 8
"""Distances at which a point's weight has fallen to a quarter, one Gauss-Newton step each."""
_INLIER_MM: Final = 4.0
_LARGEST_TURN: Final = 0.2
_LARGEST_GROWTH: Final = 0.05
"""Bounds of one step, in radians and in log scale."""
_SCALE_BOUNDS: Final = (-0.25, 0.15)
_DAMPING: Final = np.array([1.0, 1.0, 1.0, 1e-3, 1e-3, 1e-3, 1.0, 1.0, 1.0])
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
        Root mean square of the distances, each counted as 4 mm at most.
    inliers
        Share of the points within 4 mm of the hull.
    """

    rotation: NDArray[np.float64]
    translation_mm: NDArray[np.float64]
    log_scales: NDArray[np.float64]
    residual_mm: float
    inliers: float

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


@dataclass(frozen=True, slots=True, eq=False)
class _Pose:
    """A pose while it is fitted: a point comes to lie at (rotation @ arm + shift) / exp(log_scales) + the template's centre."""

    rotation: NDArray[np.float64]
    shift: NDArray[np.float64]
    log_scales: NDArray[np.float64]


class _Points:
    """Points on the inner table, as arms from the cavity's centre, and their distances from the hull."""

    def __init__(self, points: NDArray[np.float64], centre: NDArray[np.float64], template: Template) -> None:
        self.arms = points - centre
        self.template = template
        self.gradients = [np.asarray(g, np.float32) for g in np.gradient(template.distance_mm, STEP_MM)]

    def distances(self, placed: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Distances (n,) in mm from the hull and their gradients (n, 3)."""
        index = ((placed - self.template.origin_mm) / STEP_MM).T
        d = map_coordinates(self.template.distance_mm, index, order=1, mode="nearest")
        g = np.stack([map_coordinates(x, index, order=1, mode="nearest") for x in self.gradients], axis=1)
        return d.astype(np.float64), g.astype(np.float64)


def _fit(points: _Points, pose: _Pose, widths_mm: tuple[float, ...]) -> tuple[_Pose, NDArray[np.float64]]:
    """Take one Gauss-Newton step for each width; returns the pose and the distances (n,) in mm just before the last step."""
    distance = np.zeros(0)
    for width in widths_mm:
        turned = points.arms @ pose.rotation.T
        shrink = np.exp(-pose.log_scales)
        distance, slope = points.distances((turned + pose.shift) * shrink + points.template.centre_mm)
        weight = 1 / (1 + (distance / width) ** 2) ** 2
        slope = slope * shrink
        jacobian = np.concatenate([np.cross(turned, slope), slope, -(turned + pose.shift) * slope], axis=1)
        weighted = jacobian * weight[:, None]
        prior = np.zeros(9)
        prior[6:] = len(distance) * _PRIOR_MM**2 / _SCALE_SD**2
        gradient = weighted.T @ distance
        gradient[6:] += prior[6:] * (pose.log_scales - _SCALE_MEAN)
        step = -np.linalg.solve(weighted.T @ jacobian + np.diag(prior + _DAMPING), gradient)
        turn = Rotation.from_rotvec(np.clip(step[:3], -_LARGEST_TURN, _LARGEST_TURN)).as_matrix()
        growth = np.clip(step[6:], -_LARGEST_GROWTH, _LARGEST_GROWTH)
        pose = _Pose(turn @ pose.rotation, pose.shift + step[3:6], np.clip(pose.log_scales + growth, *_SCALE_BOUNDS))
    return pose, distance


def _misfit(distance: NDArray[np.float64], width_mm: float) -> float:
    """Mean of a cost that levels off beyond `width_mm`: 0 for a perfect fit, 1 for none."""
    return float(np.mean(distance**2 / (distance**2 + width_mm**2)))


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
    *((180, 0, yaw) for yaw in (0, 90, -90)),
)
"""As a head seems to lie where the header is wrong about the patient's position; all eight of PS3.3 C.7.3.1.1.2 are here."""


def fit_surface(points_mm: NDArray[np.float64], centre_mm: NDArray[np.float64], template: Template) -> SurfaceFit:
    """Fit the hull from many starts and refine the best.

    Starts that no patient can take are tried too: where one of them wins, the position in the header is wrong, and the angle of
    the pose says so.
    """
    coarse = _Points(points_mm[:: max(1, len(points_mm) // _POINTS_COARSE)], centre_mm, template)
    best, least = None, np.inf
    for angles in _STARTS + _TURNED_STARTS:
        upright = np.asarray(Rotation.from_euler("xyz", angles, degrees=True).as_matrix())
        pose, distance = _fit(coarse, _Pose(upright, np.zeros(3), np.full(3, _SCALE_MEAN)), _ROUGH_WIDTHS_MM)
        misfit = _misfit(distance, _ROUGH_WIDTHS_MM[-1])
        if best is None or misfit < least:
            best, least = pose, misfit
    assert best is not None
    fine = _Points(points_mm[:: max(1, len(points_mm) // _POINTS_FINE)], centre_mm, template)
    pose, distance = _fit(fine, best, _FINE_WIDTHS_MM)
    return SurfaceFit(
        pose.rotation,
        # the point that the scaled fit puts on the template's centre stays there, and the scales are dropped
        template.centre_mm + pose.shift - pose.rotation @ centre_mm,
        pose.log_scales,
        float(np.sqrt(np.mean(np.minimum(distance**2, _INLIER_MM**2)))),
        float(np.mean(np.abs(distance) < _INLIER_MM)),
    )
