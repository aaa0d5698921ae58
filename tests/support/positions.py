"""The same patient in the same place, as a scanner writes the images for another patient position (PS3.3 C.7.3.1.1.2)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import pydicom
from pydicom.dataset import Dataset

ORIENTATIONS: Final = {
    "HFS": (1, 0, 0, 0, 1, 0),
    "HFP": (-1, 0, 0, 0, -1, 0),
    "HFDL": (0, -1, 0, 1, 0, 0),
    "HFDR": (0, 1, 0, -1, 0, 0),
    "FFS": (-1, 0, 0, 0, 1, 0),
    "FFP": (1, 0, 0, 0, -1, 0),
    "FFDL": (0, 1, 0, 1, 0, 0),
    "FFDR": (0, -1, 0, -1, 0, 0),
}
"""Image Orientation (Patient) of an image that is seen from the scanner's front with the floor below."""


def reposition(dataset: Dataset, position: str) -> None:
    """Turn the pixels of a square HFS image, and its header with them: every voxel keeps its place in the patient."""
    row, column = np.array(ORIENTATIONS[position], float).reshape(2, 3)
    turned, corner = dataset.pixel_array.T, np.array(dataset.ImagePositionPatient, float)
    if row[0] == 0:
        turned = turned.T
    step = float(dataset.PixelSpacing[0]) * (dataset.Rows - 1)
    for axis, direction in enumerate((row, column)):
        if direction.sum() < 0:
            turned = np.flip(turned, axis)
            corner = corner - direction * step
    dataset.PixelData = np.ascontiguousarray(turned.T).tobytes()
    dataset.ImageOrientationPatient = [float(n) for n in (*row, *column)]
    dataset.ImagePositionPatient = [round(float(n), 4) for n in corner]
    dataset.PatientPosition = position


def lie(dataset: Dataset, position: str) -> None:
    """As `reposition`, but the position that was entered at the scanner is HFS: the header says so and is wrong."""
    orientation, corner = dataset.ImageOrientationPatient, list(dataset.ImagePositionPatient)
    reposition(dataset, position)
    if position.startswith("FF"):
        corner[2] = -corner[2]  # the table moved the other way through the patient
    dataset.ImageOrientationPatient, dataset.ImagePositionPatient, dataset.PatientPosition = orientation, corner, "HFS"


def rewritten(files: Iterable[Path], out: Path, position: str, *, lying: bool = False) -> list[Path]:
    """A series under another patient position, written into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for path in files:
        dataset = pydicom.dcmread(path)
        (lie if lying else reposition)(dataset, position)
        dataset.save_as(out / path.name, enforce_file_format=True)
        written.append(out / path.name)
    return written
