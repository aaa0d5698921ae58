"""Arteries and veins that carry contrast medium, as centrelines in template space, and their voxels.

The courses follow the textbook in the frame of the ICBM 2009a template; each seed bends them a little and grows its own branches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from corewatch.findings import Side
from corewatch.geometry import Matrix, apply
from phantom.shapes import Array, Point
from phantom.skull_and_neck import surroundings

_STEP_MM = 0.6


@dataclass(frozen=True, slots=True)
class Course:
    """One vessel of the right side (or the midline): waypoints in template RAS mm, radius from begin to end in mm.

    `mca` counts the divisions of the middle cerebral artery: 1 for M1 past the point of occlusion, 2 for M2 and beyond, 0 else.
    """

    points: tuple[Point, ...]
    radii_mm: tuple[float, float]
    vein: bool = False
    paired: bool = True
    mca: int = 0


CIRCLE_OF_WILLIS: Final = (
    # internal carotid: neck, petrous canal, siphon, terminus
    Course(((28, -20, -215), (26, -16, -150), (30, -22, -110), (29, -20, -80), (28, -22, -56)), (3.0, 2.4)),
    Course(
        ((28, -22, -56), (26, -22, -46), (18, -14, -42), (12, -8, -38), (11, -4, -30), (11.5, 6, -29), (12, 10, -25), (11, 7, -20)),
        (2.4, 2.1),
    ),
    Course(((11, 7, -20), (12, 3, -18), (13, 3, -15)), (2.0, 1.8)),
    Course(((13, 3, -15), (19, 5, -16)), (1.6, 1.5)),
    Course(((19, 5, -16), (26, 5, -17), (33, 3, -17), (38, 0, -14)), (1.5, 1.3), mca=1),
    Course(((38, 0, -14), (40, 5, -7), (39, 8, 1), (39, 4, 9), (40, -4, 15), (43, -16, 19), (50, -26, 23)), (1.15, 0.8), mca=2),
    Course(((38, 0, -14), (41, -6, -9), (41, -14, -2), (42, -24, 4), (46, -34, 11), (54, -42, 16)), (1.1, 0.8), mca=2),
    Course(((39, 8, 1), (40, 16, 4), (43, 22, 8), (50, 22, 12)), (0.9, 0.7), mca=2),
    Course(((38, 0, -14), (44, 4, -24), (52, 0, -26)), (0.9, 0.6), mca=2),
    # anterior cerebral: A1, A2, pericallosal, callosomarginal
    Course(((13, 3, -15), (7, 7, -14), (2.2, 12, -12)), (1.2, 1.1)),
    Course(
        ((2.2, 12, -12), (2, 22, -9), (2, 32, -2), (2, 37, 8), (2, 32, 20), (2, 20, 27), (2, 0, 32), (2, -20, 32), (2.5, -36, 28)),
        (1.2, 0.6),
    ),
    Course(((2, 37, 8), (2.5, 42, 18), (2.5, 36, 32), (2.5, 18, 42), (2.5, -2, 46)), (0.9, 0.5)),
    Course(((2, 32, -2), (2.5, 44, -4), (2.5, 58, 4), (2.5, 60, 16)), (0.8, 0.5)),
    # vertebral, basilar, posterior cerebral, superior cerebellar, posterior communicating
    Course(
        ((18, -38, -215), (18, -40, -120), (20, -42, -92), (22, -50, -80), (10, -46, -68), (4, -30, -58), (0.5, -23, -52)),
        (1.8, 1.5),
    ),
    Course(((0, -23, -52), (0, -17, -40), (0, -14, -28), (0, -15, -19)), (1.7, 1.6), paired=False),
    Course(
        ((0, -15, -19), (7, -13, -17), (15, -18, -15), (20, -26, -12), (19, -36, -7), (16, -48, -3), (13, -64, 3), (12, -82, 6)),
        (1.3, 0.6),
    ),
    Course(((20, -26, -12), (28, -36, -14), (33, -50, -13)), (0.8, 0.5)),
    Course(((0, -15, -21), (9, -17, -22), (17, -27, -21), (18, -40, -17)), (0.9, 0.6)),
    Course(((11, 4, -19), (10, -4, -17), (9, -12, -17)), (0.7, 0.7)),
    Course(((27, -18, -86), (32, -4, -92), (36, 4, -100)), (1.6, 1.2)),  # external carotid
    # deep veins, straight sinus, jugular
    Course(((2.5, 2, 12), (2.5, -14, 16), (2.5, -28, 14), (1.5, -38, 10)), (0.9, 1.2), vein=True),
    Course(((0, -38, 9), (0, -46, 10), (0, -62, 4), (0, -84, -6), (0, -98, -14)), (1.8, 2.2), vein=True, paired=False),
    Course(((44, -46, -56), (38, -36, -64), (35, -28, -90), (36, -24, -150), (38, -24, -215)), (3.2, 5.0), vein=True),
)


@lru_cache(maxsize=1)
def _lateral_surface() -> tuple[NDArray[np.float64], Point]:
    """Largest x (mm) of the brain's right surface over y and z, 2 mm grid, and the origin of that grid."""
    cavity = surroundings().cavity
    x = cavity.origin[0] + cavity.step_mm * np.arange(cavity.values.shape[0])
    inside = cavity.values < -0.5
    return np.where(inside.any(axis=0), np.where(inside, x[:, None, None], -np.inf).max(axis=0), np.nan), cavity.origin


def _surface_x(y: float, z: float) -> float:
    surface, origin = _lateral_surface()
    j, k = round((y - origin[1]) / 2), round((z - origin[2]) / 2)
    return float(surface[j, k])


def _on_surface(path: list[tuple[float, float]]) -> tuple[Point, ...]:
    return tuple((_surface_x(y, z), y, z) for y, z in path if _surface_x(y, z) > 12)


def _cortical(rng: np.random.Generator) -> list[Course]:
    """Cortical branches of the middle cerebral artery: out of the lateral fissure, then over the convexity."""
    courses = []
    for angle in np.linspace(20, 330, 9) + rng.uniform(-12, 12, 9):
        direction = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
        start = np.array([-12.0, 4.0]) + direction * (14, 6)
        reach = rng.uniform(26, 44) * (0.75 if 180 < angle < 360 else 1.0)
        bend = rng.normal(0, 5, 3)
        across = np.array([-direction[1], direction[0]])
        path = [start + direction * reach * t + across * b * t for t, b in zip((0, 0.35, 0.7, 1), (0, *bend), strict=True)]
        surface = _on_surface([(float(p[0]), float(p[1])) for p in path])
        if len(surface) >= 2:
            y, z = surface[0][1:]
            jitter = rng.normal(0, 3, 3).tolist()
            fissure = (
                (42.0, (y + 10) * 0.35 - 8 + jitter[0], z * 0.4 + 5),
                (50.0, (y + 10) * 0.7 - 9 + jitter[1], z * 0.6 + 1 + jitter[2]),
            )
            if surface[0][0] > 58:
                courses.append(Course((*fissure, *surface), (0.8, 0.4), mca=2))
    return courses


def _sinuses(rng: np.random.Generator) -> list[Course]:
    """Superior sagittal sinus along the edge of the falx, cortical veins into it, transverse and sigmoid sinuses."""
    cavity = surroundings().cavity
    edge = []
    for angle in np.linspace(20, 188, 22):
        direction = np.array([0.0, np.cos(np.radians(angle)), np.sin(np.radians(angle))])
        r = np.arange(20.0, 130.0, 0.5)
        points = np.array([0.0, -18.0, 8.0]) + r[:, None] * direction
        distance = cavity.at(points.T.astype(np.float32))
        y, z = points[np.argmax(distance > 0.5)][1:].tolist()
        edge.append((0.0, y, z))
    courses = [Course(tuple(edge), (1.0, 3.4), vein=True, paired=False)]
    transverse = [
        (4.0, -97.0, -16.0),
        (24.0, -90.0, -20.0),
        (42.0, -76.0, -24.0),
        (54.0, -58.0, -30.0),
        (52.0, -48.0, -42.0),
        (46.0, -46.0, -54.0),
    ]
    courses.append(Course(tuple(transverse), (3.0, 3.0), vein=True))
    for y in (34.0, 10.0, -14.0, -40.0):
        y += float(rng.uniform(-8, 8))
        path = [(y - 3 * t, 48.0 - 6 * abs(y + 10) / 30 + 8 * t) for t in range(5)]
        surface = _on_surface([p for p in path if not np.isnan(_surface_x(*p))])
        if len(surface) >= 2:
            courses.append(Course(surface, (0.6, 1.0), vein=True))
    return courses


@dataclass(frozen=True, slots=True, eq=False)
class Centrelines:
    """Points along all vessels: template RAS mm (n, 3), radius in mm (n,), filling 0 to 1 (n,), and which are veins (n,)."""

    points: NDArray[np.float64]
    radii_mm: NDArray[np.float64]
    filling: NDArray[np.float64]
    vein: NDArray[np.bool_]


def grow(seed: int, occluded: Side, core_ml: float) -> Centrelines:
    """The vessels of a seed; on the side `occluded` the middle cerebral artery ends at an embolus.

    A core of more than 30 mL belongs to an occlusion of M1, a smaller one to either M1 or M2. Beyond the embolus branches fill
    through collaterals: the larger the core, the less.
    """
    rng = np.random.default_rng([seed, 3])
    proximal = core_ml > 30 or rng.uniform() < 0.5
    collateral = float(np.clip(0.75 - core_ml / 130 + rng.normal(0, 0.1), 0.0, 0.85))
    anatomy = [*CIRCLE_OF_WILLIS, *_cortical(rng), *_sinuses(rng)]
    parts: list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]] = []
    for sign, side in ((1, Side.RIGHT), (-1, Side.LEFT)):
        breadth = float(rng.uniform(0.85, 1.15))
        for course in anatomy:
            if sign < 0 and not course.paired:
                continue
            points, radii = _sampled(course, rng)
            filling = np.ones(len(points))
            if side is occluded and course.mca:
                along = np.linspace(0, 1, len(points))
                if course.mca == 1 and proximal:
                    filling = np.where(along < 0.25, 1.0, 0.0)
                elif course.mca == 2:
                    filling[:] = collateral if proximal else collateral * np.clip(1.5 * along, 0, 1)
            dominance = breadth if course.vein else 1.0
            parts.append((points * (sign, 1, 1), radii * dominance, filling, np.full(len(points), course.vein)))
    points, radii, filling, vein = (np.concatenate(p) for p in zip(*parts, strict=True))
    return Centrelines(points, radii, filling, vein.astype(bool))


def _sampled(course: Course, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    waypoints = np.array(course.points, float)
    waypoints[1:-1] += rng.normal(0, 0.8, waypoints[1:-1].shape) * (1.0 if course.paired else 0.0, 1, 1)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(waypoints, axis=0), axis=1))])
    at = np.linspace(0, length[-1], max(int(length[-1] / _STEP_MM), 2))
    points = PchipInterpolator(length, waypoints)(at)
    return points, np.interp(at, (0, length[-1]), course.radii_mm)


def stamp(
    vessels: Centrelines,
    to_head: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    shape: tuple[int, int, int],
    voxel_to_ras: Matrix,
    artery_hu: float,
    vein_hu: float,
) -> Array:
    """HU that the vessels add to tissue of 40 HU, float32 of `shape`; partial volume at their walls.

    Parameters
    ----------
    to_head
        Maps template points (n, 3) to head points, RAS mm.
    voxel_to_ras
        Of the grid; its voxels are cubes of 1 mm.
    """
    added = np.zeros(shape, np.float32)
    around = apply(voxel_to_ras, np.array([np.zeros(3), np.array(shape) - 1.0]))
    near = np.abs(vessels.points[:, 2] - around[:, 2].mean()) < np.ptp(around[:, 2]) * 0.6 + 12
    filled = near & (vessels.filling > 0.02)
    centres = apply(np.linalg.inv(voxel_to_ras).astype(np.float64), to_head(vessels.points[filled]))
    radii = vessels.radii_mm[filled]
    gain = vessels.filling[filled] * np.where(vessels.vein[filled], vein_hu - 40, artery_hu - 40)
    # thinner than a voxel: the share of the voxel's volume that the lumen takes
    gain *= np.minimum(1.0, (radii / 0.75) ** 2)
    reaches = np.ceil(np.maximum(radii, 0.75) + 0.5).astype(int)
    for reach in np.unique(reaches):
        group = (reaches == reach) & ((centres > -reach - 1) & (centres < np.array(shape) + reach)).all(axis=1)
        nearest = np.rint(centres[group]).astype(int)
        for offset in np.ndindex(*[2 * int(reach) + 1] * 3):
            index = nearest + (np.array(offset) - reach)
            cover = np.clip(np.maximum(radii[group], 0.75) + 0.5 - np.linalg.norm(index - centres[group], axis=1), 0, 1)
            use = (cover > 0) & ((index >= 0) & (index < shape)).all(axis=1)
            np.maximum.at(added, tuple(index[use].T), (cover[use] * gain[group][use]).astype(np.float32))
    return added
