"""The intracranial cavity: the one large piece of soft tissue that bone encloses, and the inner table around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_closing, binary_fill_holes, distance_transform_edt, find_objects, label, maximum_filter

from conversion.alignment.isotropic import BlockMeans, IsotropicImage, isotropic

COARSE_MM: Final = 4.0
FINE_MM: Final = 2.0

_SOFT_HU: Final = (-50.0, 150.0)
"""Brain, fluid and weakly enhanced vessels; fat and bone lie outside."""
_BONE_HU: Final = 150.0
_CORE_MM: Final = 10.0
"""Necks narrower than twice this (the foramen magnum's canal, the orbit's apex) cut the soft tissue into pieces."""
_SMALLEST_ML: Final = 60.0
_LARGEST_ML: Final = 1500.0
"""More volume than this does not speak for a piece: shoulders and trunk are larger than any brain."""
_CANDIDATES: Final = 8
_SEARCHED_MM: Final = 320.0
"""Below the top of the stack: a head lies there even where the scan goes on to the chest."""


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


def _grown(core: NDArray[np.bool_], soft: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Grow a core back into the soft tissue that the cut removed."""
    reach = distance_transform_edt(~core, sampling=COARSE_MM) <= _CORE_MM + COARSE_MM / 2
    return np.asarray(reach & soft)


def _enclosed(mask: NDArray[np.bool_], near_bone: NDArray[np.bool_]) -> float:
    inner = mask.copy()
    for axis in range(3):
        inner &= np.roll(mask, 1, axis) & np.roll(mask, -1, axis)
    surface = mask & ~inner
    return float(near_bone[surface].mean()) if surface.any() else 0.0


def find_cavity(blocks: BlockMeans, threads: int) -> Cavity | None:
    """Find the cavity, or None where nothing large and soft is enclosed by bone."""
    corners = blocks.corners_ras
    low, high = corners.min(axis=0), corners.max(axis=0)
    low[2] = max(low[2], high[2] - _SEARCHED_MM)
    image = isotropic(blocks, COARSE_MM, low, high, threads)
    margin = int(np.ceil(_CORE_MM / COARSE_MM)) + 1
    soft = np.pad((image.hu > _SOFT_HU[0]) & (image.hu < _SOFT_HU[1]), margin)
    near_bone = maximum_filter(np.pad(image.hu >= _BONE_HU, margin), 5)
    pieces, _ = label(distance_transform_edt(soft, sampling=COARSE_MM) > _CORE_MM)
    boxes = find_objects(pieces)
    sizes = np.bincount(pieces.ravel(), minlength=1)[1:]
    best_merit = 0.0
    best: tuple[float, float, NDArray[np.bool_]] | None = None
    for piece in np.argsort(sizes, kind="stable")[::-1][:_CANDIDATES]:
        box = tuple(slice(max(0, s.start - margin), s.stop + margin) for s in boxes[piece])
        grown = _grown(pieces[box] == piece + 1, soft[box])
        volume_ml = float(np.count_nonzero(grown)) * COARSE_MM**3 / 1000
        if volume_ml < _SMALLEST_ML:
            continue
        enclosed = _enclosed(grown, near_bone[box])
        merit = min(volume_ml, _LARGEST_ML) * enclosed**2
        if merit > best_merit:
            whole = np.zeros_like(soft)
            whole[box] = binary_fill_holes(binary_closing(grown, iterations=2))
            best_merit, best = merit, (volume_ml, enclosed, whole)
    if best is None:
        return None
    volume_ml, enclosed, whole = best
    mask = whole[margin:-margin, margin:-margin, margin:-margin]
    centre = image.position_of(np.argwhere(mask)).mean(axis=0)
    return Cavity(centre, volume_ml, enclosed, _inner_table(blocks, image, mask, threads))


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
