"""Pictures of one slice: the image in a CT window as JPEG, and the core as a transparent PNG over it."""

from __future__ import annotations

from enum import StrEnum
from io import BytesIO
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion

from corewatch.findings import CORE_MAP_THRESHOLD
from outputs.pages.axial_slices import CONTOUR, MAP_VISIBLE_FROM, opacity, tint


class Window(StrEnum):
    """CT windows by name."""

    BRAIN = "brain"
    STROKE = "stroke"
    VESSELS = "vessels"


WINDOWS: Final[dict[Window, tuple[int, int]]] = {Window.BRAIN: (80, 40), Window.STROKE: (40, 40), Window.VESSELS: (700, 200)}
"""Width and level in HU."""


class Overlay(StrEnum):
    """How the core is drawn."""

    OUTLINE = "outline"
    FILL = "fill"


def jpeg(hu: NDArray[np.int16], window: Window, quality: int = 85) -> bytes:
    """One slice in a window (PS3.3 C.11.2.1.2.1, linear), 8 bits."""
    width, level = WINDOWS[window]
    low = level - 0.5 - (width - 1) / 2
    grey = np.clip((hu.astype(np.float32) - low) * (255.0 / (width - 1)), 0.0, 255.0)
    out = BytesIO()
    Image.fromarray(np.rint(grey).astype(np.uint8)).save(out, "JPEG", quality=quality)
    return out.getvalue()


def core_png(core: NDArray[np.uint8], overlay: Overlay) -> bytes:
    """The core on one slice, transparent elsewhere: its outline at the threshold, or the map in colours with the outline."""
    rgba = np.zeros((*core.shape, 4), np.uint8)
    if overlay is Overlay.FILL:
        values = np.clip(core, 0, 100)
        shown = values >= MAP_VISIBLE_FROM
        rgba[shown, :3] = tint()[values[shown]]
        rgba[shown, 3] = np.rint(opacity()[values[shown]] * 255).astype(np.uint8)
    inside = core > CORE_MAP_THRESHOLD
    thickness = max(1, round(min(core.shape) / 256))
    line = inside & ~binary_erosion(inside, iterations=thickness, border_value=1)
    rgba[line] = (*CONTOUR, 255)
    out = BytesIO()
    Image.fromarray(rgba).save(out, "PNG", compress_level=4)
    return out.getvalue()
