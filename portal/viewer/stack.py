"""Slices of a case to look at: the source as the modality made it, or the aligned head where there is no source.

Source slices are shown as their rows and columns lie in the file, for axial heads with the patient's right on the left of the
picture; so is the aligned head. The letters at the four sides follow the orientation of each stack.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from conversion.frames import check_pixels, decode_into
from conversion.slices import slices_of_file
from corewatch.casefolder import CaseFolder
from corewatch.errors import NotAnalysed
from corewatch.findings import CORE_MAP_THRESHOLD
from corewatch.geometry import Matrix, apply, inverse
from corewatch.instance import Instance
from corewatch.source_images import SourceImages, SourceSlice
from outputs.pages.axial_slices import level_mm, radiological

_LETTERS: Final = (("L", "R"), ("P", "A"), ("H", "F"))
"""Letters of the positive and the negative direction of each axis of LPS."""


@dataclass(frozen=True, slots=True)
class SliceLabel:
    """What is written beside a slice, so that it is found in the PACS."""

    instance_number: int | None
    place: str


@dataclass(frozen=True, slots=True)
class Sides:
    """The patient's direction at each side of the picture: L, R, A, P, H, F."""

    left: str
    right: str
    top: str
    bottom: str


class SliceStack(Protocol):
    """A stack of slices; numbers count from 0."""

    @property
    def name(self) -> str:
        """What it is."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        ...

    @property
    def spacing_mm(self) -> tuple[float, float]:
        """Between rows, between columns."""
        ...

    @property
    def sides(self) -> Sides:
        """Letters of the picture."""
        ...

    @property
    def labels(self) -> Sequence[SliceLabel]:
        """What is written beside each slice."""
        ...

    def hounsfield(self, number: int) -> NDArray[np.int16]:
        """HU of one slice, (rows, columns). Raises `LookupError` where its file is gone or damaged."""
        ...

    def core(self, number: int) -> NDArray[np.uint8] | None:
        """Core map 0-100 on the slice, (rows, columns); None where there is no map."""
        ...

    def core_areas(self) -> list[float]:
        """Area of the core in mm2 in each slice."""
        ...


class SourceStack:
    """The source's own images.

    Parameters
    ----------
    files
        SOP Instance UID -> file.
    numbers
        SOP Instance UID -> Instance Number (0020,0013).
    core_map, lps_to_voxel
        The map on the network's grid, and where it lies; None where the case has no finding.
    """

    name = "source images"

    def __init__(
        self,
        images: SourceImages,
        files: Mapping[str, Path],
        numbers: Mapping[str, int | None],
        core_map: NDArray[np.uint8] | None,
        lps_to_voxel: Matrix | None,
    ) -> None:
        self._images, self._files, self._core_map, self._lps_to_voxel = images, files, core_map, lps_to_voxel
        self.shape = (images.rows, images.columns)
        self.spacing_mm = images.spacing_mm
        self.sides = sides_of(images.orientation)
        frames = any(one.frame > 1 for one in images.slices)
        self.labels = [
            SliceLabel(numbers.get(one.sop_instance_uid), f"frame {one.frame}" if frames else "") for one in images.slices
        ]

    def hounsfield(self, number: int) -> NDArray[np.int16]:
        """HU of one slice."""
        one = self._images.slices[number]
        path = self._files.get(one.sop_instance_uid)
        if path is None:
            raise LookupError("the image is not on the disk")
        try:
            found = slices_of_file(path)[one.frame - 1]
            if check_pixels([found]):
                raise LookupError("the image cannot be decoded")
            out: NDArray[np.int16] = np.empty((1, found.pixels.rows, found.pixels.columns), np.int16)
            decode_into([found], [0], out)
        except (OSError, NotAnalysed, IndexError) as error:
            raise LookupError("the image cannot be read") from error
        values: NDArray[np.int16] = out[0]
        return values

    def core(self, number: int) -> NDArray[np.uint8] | None:
        """The map, interpolated linearly at the position of every pixel."""
        if self._core_map is None or self._lps_to_voxel is None:
            return None
        return self._sampled(number, 1)

    def core_areas(self) -> list[float]:
        """Sampled at every fourth pixel of each direction, on the slices that the core reaches."""
        areas = [0.0] * len(self.labels)
        if self._core_map is None or self._lps_to_voxel is None:
            return areas
        inside = np.argwhere(self._core_map > CORE_MAP_THRESHOLD)
        if not len(inside):
            return areas
        normal = np.cross(self._images.orientation[:3], self._images.orientation[3:])
        reached = apply(inverse(self._lps_to_voxel), inside.astype(np.float64)) @ normal
        pixel = 16.0 * self.spacing_mm[0] * self.spacing_mm[1]
        for number, one in enumerate(self._images.slices):
            if reached.min() - 1 <= float(np.dot(normal, one.position_lps)) <= reached.max() + 1:
                areas[number] = round(float((self._sampled(number, 4) > CORE_MAP_THRESHOLD).sum()) * pixel, 1)
        return areas

    def _sampled(self, number: int, step: int) -> NDArray[np.uint8]:
        assert self._core_map is not None
        assert self._lps_to_voxel is not None
        to_map = self._lps_to_voxel @ self._images.pixel_to_lps(number)
        rows, columns = self.shape
        # output (row, column) -> map: columns of the matrix swap, since the geometry names the column first
        matrix = to_map[:3, [1, 0]] * step
        offset = to_map[:3, 3]
        square = np.zeros((3, 3))
        square[:, :2] = matrix
        shape = (-(-rows // step), -(-columns // step), 1)
        values = affine_transform(self._core_map, square, offset, output_shape=shape, output=np.float32, order=1, cval=0.0)
        return np.rint(values[:, :, 0]).astype(np.uint8)


class AlignedStack:
    """The aligned head on the network's grid, for a case without DICOM source or whose source was removed."""

    name = "aligned head"
    sides = Sides("R", "L", "A", "P")
    spacing_mm = (1.0, 1.0)

    def __init__(self, hu: NDArray[np.uint8], core_map: NDArray[np.uint8] | None) -> None:
        self._hu, self._core_map = hu, core_map
        self.shape = (hu.shape[1], hu.shape[0])
        self.labels = [SliceLabel(None, f"z {level_mm(k):+.0f} mm") for k in range(hu.shape[2])]

    def hounsfield(self, number: int) -> NDArray[np.int16]:
        """HU of one slice."""
        return radiological(self._hu, number).astype(np.int16)

    def core(self, number: int) -> NDArray[np.uint8] | None:
        """The map on it."""
        return None if self._core_map is None else radiological(self._core_map, number)

    def core_areas(self) -> list[float]:
        """Voxels above the threshold; 1 voxel is 1 mm2."""
        if self._core_map is None:
            return [0.0] * len(self.labels)
        return [float(area) for area in (self._core_map > CORE_MAP_THRESHOLD).sum(axis=(0, 1))]


def sides_of(orientation: Sequence[float]) -> Sides:
    """Letters of a picture from Image Orientation (Patient): the axis that each direction is nearest to.

    >>> sides_of((1, 0, 0, 0, 1, 0))
    Sides(left='R', right='L', top='A', bottom='P')
    >>> sides_of((-1, 0, 0, 0, -0.9, -0.4))
    Sides(left='L', right='R', top='P', bottom='A')
    """
    right, bottom = (_letters(np.asarray(orientation[start : start + 3], np.float64)) for start in (0, 3))
    return Sides(left=right[1], right=right[0], top=bottom[1], bottom=bottom[0])


def _letters(direction: NDArray[np.float64]) -> tuple[str, str]:
    axis = int(np.abs(direction).argmax())
    positive, negative = _LETTERS[axis]
    return (positive, negative) if direction[axis] > 0 else (negative, positive)


def images_of(instances: Sequence[Instance]) -> SourceImages | None:
    """Slices of a series that was not prepared, from its header index, ordered along the normal.

    None where less than half of the instances lie in parallel planes, or an instance has several frames.
    """
    first = next((one for one in instances if one.orientation is not None and one.pixel_spacing_mm is not None), None)
    if first is None or first.orientation is None or first.pixel_spacing_mm is None:
        return None
    alike = [
        (one, one.position_lps)
        for one in instances
        if one.position_lps is not None
        and one.orientation is not None
        and one.frames == 1
        and (one.rows, one.columns) == (first.rows, first.columns)
        and np.allclose(one.orientation, first.orientation, atol=1e-3)
    ]
    if not first.rows or not first.columns or 2 * len(alike) < len(instances):
        return None
    normal = np.cross(first.orientation[:3], first.orientation[3:])
    ordered = sorted(alike, key=lambda pair: float(np.dot(normal, pair[1])))
    slices = tuple(SourceSlice(one.sop_class_uid, one.sop_instance_uid, 1, at) for one, at in ordered)
    return SourceImages(first.frame_of_reference_uid, first.rows, first.columns, first.pixel_spacing_mm, first.orientation, slices)


def open_stack(folder: CaseFolder, instances: Sequence[tuple[Instance, Path]], *, show_map: bool) -> SliceStack | None:
    """The stack to show: the source while its files are there, else the aligned head; None where neither is.

    Parameters
    ----------
    instances
        Header index and file of each instance of the case.
    show_map
        Whether the finding has a core that may be shown.
    """
    core_map = _volume(folder.core_map) if show_map else None
    files = {header.sop_instance_uid: path for header, path in instances}
    if files and next(iter(files.values())).is_file():
        images = _prepared_images(folder) or images_of([header for header, _ in instances])
        if images is not None and images.slices:
            numbers = {header.sop_instance_uid: header.instance_number for header, _ in instances}
            return SourceStack(images, files, numbers, core_map, _matrix(folder))
    hu = _volume(folder.aligned)
    return None if hu is None else AlignedStack(hu, core_map)


def _prepared_images(folder: CaseFolder) -> SourceImages | None:
    data = _json(folder.prepared)
    return None if data is None else SourceImages.from_json(data.get("source_images"))


def _matrix(folder: CaseFolder) -> Matrix | None:
    data = _json(folder.prepared)
    matrix = None if data is None else data.get("lps_to_voxel")
    return None if matrix is None else np.array(matrix, np.float64)


def _json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _volume(path: Path) -> NDArray[np.uint8] | None:
    try:
        return np.asarray(nib.load(path).dataobj, np.uint8)
    except (OSError, ValueError, EOFError, nib.filebasedimages.ImageFileError):
        return None
