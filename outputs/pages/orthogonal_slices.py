"""Axial, coronal and sagittal slices of an aligned head as pictures, with surfaces and the midline drawn on them.

Radiological convention: an axial slice is seen from the feet and a coronal one from the front, the patient's right on the left of
the picture; a sagittal one is seen from the patient's left, the face on the left of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import map_coordinates

from corewatch.geometry import NETWORK_SHAPE, NETWORK_TO_RAS, apply
from corewatch.volumes import Surface
from outputs.pages.axial_slices import WINDOW_HU, RgbArray
from outputs.pages.canvas import Colour


class AnatomicalPlane(StrEnum):
    """An anatomical plane."""

    AXIAL = "axial"
    CORONAL = "coronal"
    SAGITTAL = "sagittal"


_ACROSS: Final = {AnatomicalPlane.AXIAL: 2, AnatomicalPlane.CORONAL: 1, AnatomicalPlane.SAGITTAL: 0}
"""Axis of the network's grid that is normal to the plane."""

LETTERS: Final = {AnatomicalPlane.AXIAL: "RLAP", AnatomicalPlane.CORONAL: "RLSI", AnatomicalPlane.SAGITTAL: "APSI"}
"""Direction letters at the left, right, upper and lower edge of a picture."""


@dataclass(frozen=True, slots=True)
class OrthogonalSlice:
    """One slice: `index` along the axis of the network's grid that is normal to `plane`."""

    plane: AnatomicalPlane
    index: int

    @classmethod
    def at(cls, plane: AnatomicalPlane, mm: float) -> OrthogonalSlice:
        """The slice nearest to a template coordinate (RAS mm), within the grid."""
        axis = _ACROSS[plane]
        index = round((mm - NETWORK_TO_RAS[axis, 3]) / NETWORK_TO_RAS[axis, axis])
        return cls(plane, min(max(index, 0), NETWORK_SHAPE[axis] - 1))

    @property
    def mm(self) -> float:
        """Position along that axis: RAS mm of the template."""
        axis = _ACROSS[self.plane]
        return float(NETWORK_TO_RAS[axis, axis] * self.index + NETWORK_TO_RAS[axis, 3])

    def of(self, volume: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The slice of a volume of shape (146, 182, 133), L-A-S, as rows and columns of the picture."""
        if volume.shape != NETWORK_SHAPE:
            raise ValueError(f"expected a volume of shape {NETWORK_SHAPE}, not {volume.shape}")
        if self.plane is AnatomicalPlane.AXIAL:
            return volume[:, ::-1, self.index].T
        if self.plane is AnatomicalPlane.CORONAL:
            return volume[:, self.index, ::-1].T
        return volume[self.index, ::-1, ::-1].T


def picture_size(plane: AnatomicalPlane, scale: float) -> tuple[int, int]:
    """Width and height in pixels of a picture at `scale` pixels per mm."""
    left_right, front_back, up_down = (round(n * scale) for n in NETWORK_SHAPE)
    return {
        AnatomicalPlane.AXIAL: (left_right, front_back),
        AnatomicalPlane.CORONAL: (left_right, up_down),
        AnatomicalPlane.SAGITTAL: (front_back, up_down),
    }[plane]


def grey_picture(hu: NDArray[np.uint8], cut: OrthogonalSlice, scale: float) -> NDArray[np.float32]:
    """A slice of the head in grey: float32, shape (rows, columns, 3), 0-255, `scale` pixels per mm."""
    low, high = WINDOW_HU
    image = Image.fromarray(np.ascontiguousarray(cut.of(hu), np.float32))
    enlarged = np.asarray(image.resize(picture_size(cut.plane, scale), Image.Resampling.BICUBIC), np.float32)
    return np.repeat((np.clip((enlarged - low) / (high - low), 0, 1) * 255)[:, :, None], 3, axis=2)


def signed_distance_mm(surface: Surface, cut: OrthogonalSlice, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Signed distance in mm from a surface at each pixel of a slice's picture of shape (rows, columns); negative inside."""
    axis = _ACROSS[cut.plane]
    across, down = (a for a in range(3) if a != axis)
    along = [(np.arange(n) + 0.5) * NETWORK_SHAPE[a] / n - 0.5 for a, n in ((across, shape[1]), (down, shape[0]))]
    voxel = np.empty((*shape, 3))
    voxel[..., axis] = cut.index
    voxel[..., across] = along[0][::-1] if cut.plane is AnatomicalPlane.SAGITTAL else along[0]
    voxel[..., down] = along[1][::-1, None]
    index = apply(surface.network_to_index, voxel)
    depth: NDArray[np.float32] = map_coordinates(surface.depth_mm, np.moveaxis(index, -1, 0), order=1, mode="nearest")
    return depth


def tint_inside(pixels: NDArray[np.float32], depth_mm: NDArray[np.float32], colour: Colour, opacity: float) -> None:
    """Tint, in place, the inside of a surface."""
    _blend(pixels, np.where(depth_mm < 0, opacity, 0.0), colour)


def draw_edge(pixels: NDArray[np.float32], depth_mm: NDArray[np.float32], colour: Colour, width: float, dash: int = 0) -> None:
    """Draw, in place, the line where a surface meets the slice: `width` pixels wide, in dashes of `dash` pixels (0: unbroken)."""
    # where the surface is nearly parallel to the slice, the distance grows slowly and the line would become a band
    steepness = np.maximum(np.hypot(*np.gradient(depth_mm)), 1e-3)
    strength = np.clip(width / 2 + 0.5 - np.abs(depth_mm) / steepness, 0, 1)
    if dash:
        rows, columns = np.indices(depth_mm.shape) - np.array(depth_mm.shape)[:, None, None] / 2
        around = np.arctan2(rows, columns) * np.hypot(rows, columns).mean()
        strength = np.where((around // dash) % 2 == 0, strength, 0.0)
    _blend(pixels, strength, colour)


def draw_midline(pixels: NDArray[np.float32], cut: OrthogonalSlice, colour: Colour, width: float) -> None:
    """Draw, in place, the midsagittal plane (template x = 0) on an axial or coronal slice."""
    if cut.plane is AnatomicalPlane.SAGITTAL:
        return
    scale = pixels.shape[1] / NETWORK_SHAPE[0]
    # pixel centres: voxel i covers i * scale to (i + 1) * scale
    at = (NETWORK_TO_RAS[0, 3] + 0.5) * scale - 0.5
    strength = np.clip(width / 2 + 0.5 - np.abs(np.arange(pixels.shape[1]) - at), 0, 1)
    _blend(pixels, np.broadcast_to(strength, pixels.shape[:2]) * 0.8, colour)


def as_uint8(pixels: NDArray[np.float32]) -> RgbArray:
    """The picture as uint8."""
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _blend(pixels: NDArray[np.float32], strength: NDArray[np.floating], colour: Colour) -> None:
    share = strength[:, :, None].astype(np.float32)
    pixels += share * (np.array(colour, np.float32) - pixels)
