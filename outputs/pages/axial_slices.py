"""Axial slices of an aligned head as colour pictures, in radiological convention.

The patient's RIGHT is on the picture's LEFT, anterior is up (as if looking from the feet). Network voxels run L-A-S, so a picture
is ``hu[:, ::-1, k].T``: columns increase to the patient's left, rows to posterior.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion

from corewatch.findings import CORE_MAP_THRESHOLD, Finding, Side
from corewatch.geometry import NETWORK_SHAPE, NETWORK_TO_RAS

WINDOW_HU: Final = (0, 100)
"""CT window in HU (width 100, level 50): the whole range of an aligned head."""

MAP_VISIBLE_FROM: Final = 20
"""Lowest core-map value that is tinted; lower ones would only hide the brain."""

CONTOUR: Final = (86, 220, 255)
"""Colour of the outline at `CORE_MAP_THRESHOLD`: light blue, distinct from the orange tint for every kind of colour vision."""

_TINT_AT = np.array([0.0, 25.0, 50.0, 75.0, 100.0])
_TINT = np.array([[60, 10, 100], [150, 35, 110], [220, 80, 70], [250, 150, 30], [252, 240, 120]], np.float64)

RgbArray = NDArray[np.uint8]
"""uint8, shape (rows, columns, 3)."""


def tint() -> RgbArray:
    """Colours of core-map values 0-100, shape (101, 3): lightness increases with the value, so that colour vision is not needed."""
    values = np.arange(101)
    return np.stack([np.interp(values, _TINT_AT, _TINT[:, c]) for c in range(3)], axis=1).round().astype(np.uint8)


def opacity() -> NDArray[np.float64]:
    """Opacity 0-1 of the tint for core-map values 0-100, shape (101,)."""
    values = np.arange(101)
    return np.where(values < MAP_VISIBLE_FROM, 0.0, 0.25 + 0.30 * (values - MAP_VISIBLE_FROM) / (100 - MAP_VISIBLE_FROM))


def map_is_shown(finding: Finding) -> bool:
    """Whether the core map is drawn.

    A map is scaled to its maximum, so that without a core it shows noise at full strength. Without an alert and without a side it
    has nothing to locate.
    """
    return finding.alert or finding.side is not Side.NONE


def level_mm(k: int) -> float:
    """Position of axial slice `k` in mm: z in the template's RAS frame."""
    return float(NETWORK_TO_RAS[2, 2] * k + NETWORK_TO_RAS[2, 3])


def radiological(volume: NDArray[np.uint8], k: int) -> NDArray[np.uint8]:
    """Axial slice `k` of an L-A-S volume, shape (182, 146): the patient's right on the left, anterior up."""
    if volume.shape != NETWORK_SHAPE:
        raise ValueError(f"expected a volume of shape {NETWORK_SHAPE}, not {volume.shape}")
    return np.ascontiguousarray(volume[:, ::-1, k].T)


def _resized(plane: NDArray[np.uint8], width: int, height: int) -> NDArray[np.float32]:
    image = Image.fromarray(plane.astype(np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), np.float32)


def render(hu: NDArray[np.uint8], core_map: NDArray[np.uint8] | None, k: int, scale: float) -> RgbArray:
    """Axial slice `k` as a colour picture.

    Parameters
    ----------
    hu
        Aligned head, uint8, shape (146, 182, 133), L-A-S, HU 0-100.
    core_map
        Core map on the same grid, 0-100; None draws the head alone.
    scale
        Pixels per mm.
    """
    low, high = WINDOW_HU
    width, height = round(NETWORK_SHAPE[0] * scale), round(NETWORK_SHAPE[1] * scale)
    grey = np.clip((_resized(radiological(hu, k), width, height) - low) / (high - low), 0.0, 1.0) * 255.0
    picture = np.repeat(grey[:, :, None], 3, axis=2)
    if core_map is not None:
        plane = radiological(core_map, k)
        if plane.max() >= MAP_VISIBLE_FROM:
            values = np.clip(_resized(plane, width, height), 0.0, 100.0)
            index = values.astype(np.intp)
            alpha = opacity()[index][:, :, None]
            picture = picture * (1.0 - alpha) + tint()[index] * alpha
            core = values > CORE_MAP_THRESHOLD
            line = core & ~binary_erosion(core, iterations=max(1, round(scale * 0.8)), border_value=1)
            picture[line] = CONTOUR
    return picture.round().astype(np.uint8)


def core_areas(core_map: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Voxels above `CORE_MAP_THRESHOLD` in each axial slice, shape (133,); 1 voxel is 1 mm^2."""
    areas: NDArray[np.int64] = (core_map > CORE_MAP_THRESHOLD).sum(axis=(0, 1), dtype=np.int64)
    return areas
