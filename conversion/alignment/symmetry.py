"""The midsagittal plane from the head's own symmetry.

The head is compared with its mirror image, and the plane is moved until both agree best (Gauss-Newton on three parameters: offset,
roll, yaw). Pairs that disagree much count little, so that a lesion or an odd vessel on one side does not turn the plane.
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
from conversion.alignment.template import STEP_MM, Template
from corewatch.geometry import Matrix

_STEP_MM: Final = 2.0
_HALF_WIDTH_MM: Final = 90.0
_WINDOW_HU: Final = (-20.0, 120.0)
_UNSEEN_HU: Final = -150.0
"""At or below this a voxel is air or outside the field of view: such pairs say nothing."""


@dataclass(frozen=True, slots=True)
class SymmetryPlane:
    """Where the head's plane of symmetry lies in the frame the head was compared in.

    Attributes
    ----------
    offset_mm
        Along x, at the template's centre.
    roll_degrees, yaw_degrees
        Rotation about the anterior and the superior axis.
    correlation
        Between the head and its mirror image at that plane.
    """

    offset_mm: float
    roll_degrees: float
    yaw_degrees: float
    correlation: float

    @property
    def degrees(self) -> float:
        """Angle between the plane and x = 0."""
        return float(np.hypot(self.roll_degrees, self.yaw_degrees))


class MirrorImage:
    """A head in a rigid pose, ready to be compared with its mirror image."""

    def __init__(self, blocks: BlockMeans, pose: Matrix, template: Template, threads: int) -> None:
        low, high = _bounds(template)
        shape = tuple(int(n) for n in (high - low) / _STEP_MM + 1)
        to_ras = np.diag([_STEP_MM, _STEP_MM, _STEP_MM, 1.0])
        to_ras[:3, 3] = low
        to_block = np.linalg.inv(blocks.to_ras) @ np.linalg.inv(pose) @ to_ras
        image = np.ascontiguousarray(sample(blocks.hu, to_block, shape, outside=-1000.0, threads=threads))
        self._seen = image > _UNSEEN_HU
        self._window = np.clip(image, *_WINDOW_HU)
        self._low = low
        self._template = template

    def plane(self, deepest_mm: float, widths_hu: tuple[tuple[float, float], ...]) -> SymmetryPlane:
        """Find the plane.

        Parameters
        ----------
        deepest_mm
            Take voxels up to this far outside the template's hull; negative: only so deep inside it.
        widths_hu
            One Gauss-Newton step for each pair (smoothing in mm, width in HU at which a pair's weight has fallen to a quarter).
        """
        points = _half_grid(self._template, deepest_mm)
        mirrored = points * [-1, 1, 1]
        centre = self._template.centre_mm
        offset, roll, yaw = 0.0, 0.0, 0.0
        image, gradients, smoothing = self._window, [], -1.0
        correlation = 0.0
        for sigma, width in widths_hu:
            if sigma != smoothing:
                image = gaussian_filter(self._window, sigma / _STEP_MM) if sigma > 0 else self._window
                gradients = [np.asarray(g, np.float32) for g in np.gradient(image, _STEP_MM)]
                smoothing = sigma
            turn = np.asarray(Rotation.from_rotvec([0.0, roll, yaw]).as_matrix())
            sides = []
            for side in (points, mirrored):
                arm = (side - centre) @ turn.T
                index = ((arm + centre + [offset, 0, 0] - self._low) / _STEP_MM).T
                value = map_coordinates(image, index, order=1, mode="nearest")
                slope = [map_coordinates(g, index, order=1, mode="nearest") for g in gradients]
                seen = map_coordinates(self._seen, index, order=0, mode="constant", cval=0)
                by_roll = slope[0] * arm[:, 2] - slope[2] * arm[:, 0]
                by_yaw = slope[1] * arm[:, 0] - slope[0] * arm[:, 1]
                sides.append((value, seen, np.stack([slope[0], by_roll, by_yaw], axis=1)))
            (a, seen_a, ja), (b, seen_b, jb) = sides
            residual = (a - b).astype(np.float64)
            weight = (seen_a & seen_b) / (1 + (residual / width) ** 2) ** 2
            jacobian = (ja - jb).astype(np.float64)
            weighted = jacobian * weight[:, None]
            hessian = weighted.T @ jacobian + np.diag([1.0, 100.0, 100.0])
            step = -np.linalg.solve(hessian, weighted.T @ residual)
            offset += float(np.clip(step[0], -4, 4))
            roll += float(np.clip(step[1], -0.1, 0.1))
            yaw += float(np.clip(step[2], -0.1, 0.1))
            correlation = _weighted_correlation(a, b, weight)
        return SymmetryPlane(offset, float(np.degrees(roll)), float(np.degrees(yaw)), correlation)


def straighten(pose: Matrix, plane: SymmetryPlane, template: Template) -> Matrix:
    """Move a pose (scanner RAS -> template RAS) so that the plane comes to lie at x = 0."""
    turn = np.asarray(Rotation.from_rotvec(np.radians([0.0, plane.roll_degrees, plane.yaw_degrees])).as_matrix())
    found = np.eye(4)
    found[:3, :3] = turn
    found[:3, 3] = template.centre_mm - turn @ template.centre_mm + [plane.offset_mm, 0, 0]
    return np.linalg.inv(found) @ pose


def _bounds(template: Template) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    low = np.array([-_HALF_WIDTH_MM, template.centre_mm[1] - 106, template.centre_mm[2] - 74])
    high = np.array([_HALF_WIDTH_MM, template.centre_mm[1] + 106, template.centre_mm[2] + 90])
    return low, high


def _half_grid(template: Template, deepest_mm: float) -> NDArray[np.float64]:
    """Points with x > 0 inside the hull widened by `deepest_mm`, every second one of a grid of 3 mm."""
    middle = round(-template.origin_mm[0] / STEP_MM)
    near = np.argwhere(template.distance_mm[middle + 1 :] < deepest_mm)[::2]
    return np.asarray((near + np.array([middle + 1, 0, 0])) * STEP_MM + template.origin_mm, np.float64)


def _weighted_correlation(a: NDArray[np.floating], b: NDArray[np.floating], weight: NDArray[np.floating]) -> float:
    total = weight.sum()
    if total <= 0:
        return 0.0
    a, b = a - (weight * a).sum() / total, b - (weight * b).sum() / total
    power = float((weight * a * a).sum() * (weight * b * b).sum())
    return float((weight * a * b).sum()) / power**0.5 if power > 0 else 0.0
