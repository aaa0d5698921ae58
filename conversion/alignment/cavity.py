"""The intracranial cavity: the one large piece of soft tissue that bone encloses, and the inner table around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_closing, binary_fill_holes, distance_transform_edt, label, maximum_filter

from conversion.alignment.isotropic import BlockMeans, IsotropicImage, isotropic

COARSE_MM: Final = 4.0
FINE_MM: Final = 2.0

_SOFT_HU: Final = (-50.0, 150.0)
"""Brain, fluid and weakly enhanced vessels; fat and bone lie outside."""
_BONE_HU: Final = 150.0
_CORE_MM: Final = 10.0
"""Necks narrower than twice this (the foramen magnum's canal, the orbit's apex) cut the soft tissue into pieces."""
_SMALLEST_ML: Final = 150.0


@dataclass(frozen=True, slots=True, eq=False)
class Cavity:
    """The cavity found in one volume, in scanner RAS mm.

    Attributes
    ----------
    centre_mm
        Centre of its voxels, (3,).
    volume_ml
        Its volume, as far as the field of view shows it.
    enclosed
        Share of its surface that has bone within 8 mm, 0 to 1.
    inner_table_mm
        Points on the inner table of the skull, (n, 3).
    """

    centre_mm: NDArray[np.float64]
    volume_ml: float
    enclosed: float
    inner_table_mm: NDArray[np.float64]


def _grown(core: NDArray[np.bool_], soft: NDArray[np.bool_], reach_mm: float) -> NDArray[np.bool_]:
    reach = distance_transform_edt(~core, sampling=COARSE_MM) <= reach_mm
    return np.asarray(reach & soft)


def _surface(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    inner = mask.copy()
    for axis in range(3):
        inner &= np.roll(mask, 1, axis) & np.roll(mask, -1, axis)
    return np.asarray(mask & ~inner)


def _enclosed(mask: NDArray[np.bool_], near_bone: NDArray[np.bool_]) -> float:
    surface = _surface(mask)
    return float(near_bone[surface].mean()) if surface.any() else 0.0


def find_cavity(blocks: BlockMeans, threads: int) -> Cavity | None:
    """Find the cavity, or None where nothing large and soft is enclosed by bone."""
    corners = blocks.corners_ras
    image = isotropic(blocks, COARSE_MM, corners.min(axis=0), corners.max(axis=0), threads)
    soft = np.pad((image.hu > _SOFT_HU[0]) & (image.hu < _SOFT_HU[1]), 1)
    bone = np.pad(image.hu >= _BONE_HU, 1)
    near_bone = maximum_filter(bone, 5)
    pieces, count = label(distance_transform_edt(soft, sampling=COARSE_MM) > _CORE_MM)
    if count == 0:
        return None
    sizes = np.bincount(pieces.ravel())[1:]
    best: tuple[float, float, NDArray[np.bool_]] | None = None
    for piece in np.argsort(sizes)[::-1][:4] + 1:
        mask = _grown(pieces == piece, soft, _CORE_MM + COARSE_MM / 2)
        volume = float(mask.sum()) * COARSE_MM**3 / 1000
        if volume < _SMALLEST_ML:
            continue
        enclosed = _enclosed(mask, near_bone)
        merit = min(volume, 1500.0) * enclosed**2
        if best is None or merit > best[0]:
            best = (merit, enclosed, mask)
    if best is None:
        return None
    _, enclosed, mask = best
    closed = binary_fill_holes(binary_closing(mask, iterations=2))
    mask = closed[1:-1, 1:-1, 1:-1]
    points = _inner_table(blocks, image, mask, threads)
    return Cavity(image.position_of(np.argwhere(mask)).mean(axis=0), float(mask.sum()) * COARSE_MM**3 / 1000, enclosed, points)


def _inner_table(blocks: BlockMeans, coarse: IsotropicImage, mask: NDArray[np.bool_], threads: int) -> NDArray[np.float64]:
    """Where the values cross from soft tissue to bone, seen from inside, to a fraction of a voxel."""
    found = np.argwhere(mask)
    low = coarse.position_of(found.min(axis=0)) - 4 * FINE_MM
    high = coarse.position_of(found.max(axis=0)) + 4 * FINE_MM
    fine = isotropic(blocks, FINE_MM, low, high, threads)
    depth = distance_transform_edt(mask, sampling=COARSE_MM) - distance_transform_edt(~mask, sampling=COARSE_MM)
    # nearest coarse voxel of each fine voxel: both grids run along the same axes
    index = [
        np.clip(
            np.rint((fine.origin_mm[a] - coarse.origin_mm[a] + np.arange(fine.hu.shape[a]) * FINE_MM) / COARSE_MM),
            0,
            mask.shape[a] - 1,
        )
        for a in range(3)
    ]
    near = depth[np.ix_(*[i.astype(int) for i in index])]
    shell = (near > -1.5 * COARSE_MM) & (near < 2.5 * COARSE_MM)
    inside = shell & (fine.hu < _BONE_HU) & (fine.hu > _SOFT_HU[0])
    outside = (fine.hu >= _BONE_HU) & shell
    points = []
    for axis in range(3):
        for sign in (1, -1):
            here = [slice(None)] * 3
            there = [slice(None)] * 3
            here[axis], there[axis] = (slice(None, -1), slice(1, None)) if sign > 0 else (slice(1, None), slice(None, -1))
            crossing = inside[tuple(here)] & outside[tuple(there)] & (near[tuple(here)] > near[tuple(there)])
            at = np.argwhere(crossing)
            a, b = fine.hu[tuple(here)][crossing], fine.hu[tuple(there)][crossing]
            position = at.astype(np.float64)
            if sign < 0:
                position[:, axis] += 1
            position[:, axis] += sign * (_BONE_HU - a) / (b - a)
            points.append(position)
    return fine.position_of(np.concatenate(points))
