"""Input mask: the rim around the template's brain beyond which a model's input is set to 0 HU.

The laboratory that trained DeepSymNet masked its heads after the registration (Giancardo et al., NeuroImage: Clinical
2023;37:103362): scalp, outer skull and head holder never reached the network, and change its answer where they do.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from conversion.alignment.outline import template_edge
from corewatch.geometry import NETWORK_SHAPE, apply
from worker.models.manifest import InputMask

T = TypeVar("T", np.uint8, np.float32)

_CONTENT_HU: Final = 5
"""Above this a voxel shows something; air and fat are clipped to 0."""
_SLICES: Final = slice(45, 110)
"""Slices above the skull base, where a scalp lies all around."""
_SCALP_MM: Final = 12
"""Depth below the skin within which the fat of a scalp lies."""
_MOST_GAPS: Final = 0.04
"""Share of lines of sight with air or fat close below the surface. Published patient, masked: 0.01; synthetic heads with
scalp: 0.08 and more; the patient with a scalp drawn around it: 0.35 and more."""
_SHELL_MM: Final = (10.0, 14.0)
_MOST_IN_SHELL: Final = 0.06
"""Share of voxels with content in a shell beyond the brain. Published patient: 0.02; mean CT of 30 adults: 0.4."""


def cut(hu: NDArray[T], mask: InputMask) -> NDArray[T]:
    """Set everything beyond the mask to 0 HU: `hu` of any dtype, (146, 182, 133), network voxels (L-A-S)."""
    return np.where(mask_region(mask), hu, hu.dtype.type(0))


@lru_cache(maxsize=4)
def mask_region(mask: InputMask) -> NDArray[np.bool_]:
    """Voxels of the network's grid that a mask keeps: bool, (146, 182, 133), equal to its mirror image along L."""
    region = _hull_distance_mm() <= mask.beyond_brain_mm
    for axis in (0, 1):
        edge = np.arange(NETWORK_SHAPE[axis])
        outside = np.minimum(edge, edge[::-1]) < mask.grid_edge_voxels
        region[(slice(None),) * axis + (outside,)] = False
    region.setflags(write=False)
    return region


def is_masked(hu: NDArray[np.uint8]) -> bool:
    """Whether a head shows no scalp: it ends within bone or brain, as the published heads do."""
    content = hu > _CONTENT_HU
    rows = content[:, :, _SLICES]
    distance = _hull_distance_mm()[:, :, _SLICES]
    shell = rows[(distance > _SHELL_MM[0]) & (distance <= _SHELL_MM[1])]
    return float(shell.mean()) <= _MOST_IN_SHELL and _gaps(rows) <= _MOST_GAPS


def _gaps(content: NDArray[np.bool_]) -> float:
    """Share of the lines along L and A, from all four sides, that meet air or fat close below the surface."""
    gaps, lines = 0, 0
    for axis in (0, 1):
        across = content.shape[1 - axis]
        middle = np.moveaxis(content, axis, 0)[:, across // 4 : across * 3 // 4]
        for side in (middle, middle[::-1]):
            first = side.argmax(axis=0)
            met = side.any(axis=0) & (first < len(side) // 2)
            depth = first[met] + np.arange(1, _SCALP_MM)[:, None]
            below = np.take_along_axis(side[:, met], depth, axis=0)
            gaps += int(np.count_nonzero(~below.all(axis=0)))
            lines += int(np.count_nonzero(met))
    return gaps / lines if lines else 0.0


@lru_cache(maxsize=1)
def _hull_distance_mm() -> NDArray[np.float32]:
    """Signed distance (mm) of each voxel from the hull of the template's brain, positive outside, even about the grid's middle."""
    edge = template_edge()
    index = apply(edge.network_to_index, np.moveaxis(np.indices(NETWORK_SHAPE, dtype=np.float64), 0, -1).reshape(-1, 3))
    distance = map_coordinates(edge.depth_mm, index.T, order=1, mode="nearest").reshape(NETWORK_SHAPE)
    # a mirrored head must give the mirrored answer: the grid is split 1 mm beside the template's plane of symmetry
    return np.asarray((distance + distance[::-1]) / 2, np.float32)
