"""Source images of a volume: the slices that result objects refer to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from corewatch.geometry import Matrix, Orientation


@dataclass(frozen=True, slots=True)
class SourceSlice:
    """One slice that a result refers to. `frame` counts from 1 as in DICOM, and is 1 for a single-frame image."""

    sop_class_uid: str
    sop_instance_uid: str
    frame: int
    position_lps: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class SourceImages:
    """The slices of one series as acquired: before any shear or interpolation onto a regular grid.

    Attributes
    ----------
    frame_of_reference_uid
        Empty where the series has none.
    rows, columns
        Of every slice.
    spacing_mm
        Pixel Spacing (0028,0030): between rows, between columns.
    orientation
        Of every slice.
    slices
        Ascending along the normal, as the volume's do.
    """

    frame_of_reference_uid: str
    rows: int
    columns: int
    spacing_mm: tuple[float, float]
    orientation: Orientation
    slices: tuple[SourceSlice, ...]

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> SourceImages | None:
        """From the entry `source_images` of a case's `prepared.json`; None where it has none."""
        if data is None:
            return None
        return cls(
            frame_of_reference_uid=data["frame_of_reference_uid"],
            rows=data["rows"],
            columns=data["columns"],
            spacing_mm=tuple(data["spacing_mm"]),
            orientation=tuple(data["orientation"]),
            slices=tuple(SourceSlice(c, i, frame, tuple(position)) for c, i, frame, position in data["slices"]),
        )

    def pixel_to_lps(self, number: int) -> Matrix:
        """(column, row, 0, 1) of slice `number` (from 0) -> LPS mm, centre of the pixel (PS3.3 C.7.6.2.1.1).

        The third axis is the unit normal.
        """
        row, column = np.array(self.orientation[:3]), np.array(self.orientation[3:])
        matrix = np.eye(4)
        matrix[:3, 0] = row * self.spacing_mm[1]
        matrix[:3, 1] = column * self.spacing_mm[0]
        matrix[:3, 2] = np.cross(row, column)
        matrix[:3, 3] = self.slices[number].position_lps
        return matrix
