"""Signed distances (mm, negative inside) of the simple bodies that the head is drawn from, and grids to draw them on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

Array = NDArray[np.float32]
Point = tuple[float, float, float]
Shape = Callable[[Array, Array, Array], Array]
"""Signed distance of points x, y, z (arrays that broadcast), template RAS mm."""


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """Samples of a function of space on a regular grid whose axes run R-A-S.

    Attributes
    ----------
    values
        3-D array.
    origin
        RAS mm of voxel (0, 0, 0).
    step_mm
        Distance of the samples.
    """

    values: NDArray[np.float32] | NDArray[np.int16] | NDArray[np.uint8]
    origin: Point
    step_mm: float = 1.0

    @property
    def top(self) -> float:
        """RAS mm of the uppermost samples."""
        return float(self.origin[2] + self.step_mm * (self.values.shape[2] - 1))

    def at(self, points: Array) -> Array:
        """Linear interpolation at `points`, shape (3, ...), RAS mm; beyond the grid the nearest sample holds."""
        index = points - np.array(self.origin, np.float32).reshape(3, *[1] * (points.ndim - 1))
        if self.step_mm != 1.0:
            index /= np.float32(self.step_mm)
        sampled: Array = map_coordinates(self.values, index, order=1, mode="nearest", prefilter=False, output=np.float32)
        return sampled

    @classmethod
    def sample(cls, shape: Shape, lower: Point, upper: Point, step_mm: float = 1.0) -> Field:
        """Evaluate `shape` on the grid from `lower` to `upper` (RAS mm)."""
        return cls(shape(*grid(lower, upper, step_mm)), lower, step_mm)


def grid(lower: Point, upper: Point, step_mm: float = 1.0) -> tuple[Array, Array, Array]:
    """Open coordinate grids (RAS mm) from `lower` to `upper`, both included."""
    axes = [np.arange(a, b + step_mm / 2, step_mm, dtype=np.float32) for a, b in zip(lower, upper, strict=True)]
    x, y, z = np.ix_(*axes)
    return x, y, z


def ellipsoid(centre: Point, radii: Point) -> Shape:
    """Ellipsoid with axes along the frame; the distance is first-order exact at the surface."""

    def distance(x: Array, y: Array, z: Array) -> Array:
        terms = [(p - c) / r for p, c, r in zip((x, y, z), centre, radii, strict=True)]
        scaled = np.sqrt(sum(t * t for t in terms) + np.float32(1e-6))
        gradient = np.sqrt(sum((t / r) ** 2 for t, r in zip(terms, radii, strict=True)) + np.float32(1e-9))
        return np.asarray(scaled * (scaled - 1) / gradient, np.float32)

    return distance


def cylinder(centre: tuple[float, float], radii: tuple[float, float], top: float, lean: float = 0.0) -> Shape:
    """Upright elliptic cylinder that begins at z = `top` and goes down without end; `lean`: mm of y per mm of z."""

    def distance(x: Array, y: Array, z: Array) -> Array:
        u, v = (x - centre[0]) / radii[0], (y - centre[1] - lean * (z - top)) / radii[1]
        side = (np.sqrt(u * u + v * v) - 1) * min(radii)
        return np.asarray(np.maximum(side, z - top), np.float32)

    return distance


def tube(points: Sequence[Point], radius: float) -> Shape:
    """Round tube along straight segments."""

    def distance(x: Array, y: Array, z: Array) -> Array:
        best: Array | None = None
        for a, b in zip(np.array(points[:-1], np.float32), np.array(points[1:], np.float32), strict=True):
            d = b - a
            t = np.clip(((x - a[0]) * d[0] + (y - a[1]) * d[1] + (z - a[2]) * d[2]) / np.float32(d @ d), 0, 1)
            square = (x - a[0] - t * d[0]) ** 2 + (y - a[1] - t * d[1]) ** 2 + (z - a[2] - t * d[2]) ** 2
            best = square if best is None else np.minimum(best, square)
        if best is None:
            raise ValueError("a tube needs two points")
        return np.asarray(np.sqrt(best) - np.float32(radius), np.float32)

    return distance


def union(*shapes: Shape, blend_mm: float = 0.0) -> Shape:
    """Union of bodies; with `blend_mm` their joints are rounded (polynomial smooth minimum)."""

    def distance(x: Array, y: Array, z: Array) -> Array:
        result = shapes[0](x, y, z)
        for shape in shapes[1:]:
            result = smooth_minimum(result, shape(x, y, z), blend_mm)
        return result

    return distance


def smooth_minimum(a: Array, b: Array, blend_mm: float) -> Array:
    """Minimum of two distances, rounded where they differ by less than `blend_mm`."""
    if blend_mm <= 0:
        return np.minimum(a, b)
    h = np.clip(1 - np.abs(a - b) / np.float32(blend_mm), 0, 1)
    return np.asarray(np.minimum(a, b) - h * h * np.float32(blend_mm / 4), np.float32)


class Canvas:
    """A volume of HU on a 1 mm R-A-S grid to draw bodies on, later ones over earlier ones, with edges softened over 1 mm."""

    def __init__(self, hu: Array, origin: Point) -> None:
        self.hu = hu
        self.origin = origin

    def draw(self, shape: Shape, lower: Point, upper: Point, hu: float, mirrored: bool = False) -> None:
        """Draw `shape`, which lies within the box `lower` to `upper` (RAS mm), in `hu`; `mirrored`: on the other side as well."""
        cover, part = self._cover(shape, lower, upper)
        part += cover * (np.float32(hu) - part)
        if mirrored:
            cover, part = self._cover(_mirrored(shape), (-upper[0], *lower[1:]), (-lower[0], *upper[1:]))
            part += cover * (np.float32(hu) - part)

    def _cover(self, shape: Shape, lower: Point, upper: Point) -> tuple[Array, Array]:
        """How much of each voxel in the box the shape takes (0 to 1), and the box's part of the canvas."""
        start = [max(int(a - o), 0) for a, o in zip(lower, self.origin, strict=True)]
        stop = [min(int(b - o) + 1, n) for b, o, n in zip(upper, self.origin, self.hu.shape, strict=True)]
        axes = [np.arange(i, j, dtype=np.float32) + np.float32(o) for i, j, o in zip(start, stop, self.origin, strict=True)]
        x, y, z = np.ix_(*axes)
        cover = np.clip(np.float32(0.5) - shape(x, y, z), 0, 1)
        return cover, self.hu[start[0] : stop[0], start[1] : stop[1], start[2] : stop[2]]


def _mirrored(shape: Shape) -> Shape:
    def distance(x: Array, y: Array, z: Array) -> Array:
        return shape(-x, y, z)

    return distance
