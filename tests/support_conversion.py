"""Small CT series for tests, built slice by slice with any geometry and any fault."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian

SERIES_UID, STUDY_UID, FRAME_UID = "1.2.826.0.1.1.20", "1.2.826.0.1.1.10", "1.2.826.0.1.1.30"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
INTERCEPT = -1024


def head(rows: int = 40, columns: int = 36, seed: int = 0) -> NDArray[np.int16]:
    """HU of a slice with air around soft tissue."""
    y, x = np.mgrid[:rows, :columns]
    inside = ((y - rows / 2) / rows) ** 2 + ((x - columns / 2) / columns) ** 2 < 0.14
    tissue = np.random.default_rng(seed).integers(0, 100, (rows, columns))
    return np.where(inside, tissue, -1000).astype(np.int16)


def image(hu: NDArray[Any], position: Sequence[float], number: int = 1, **attributes: Any) -> Dataset:
    """One CT Image Storage object, 12 bits unsigned, intercept -1024; `attributes` replace elements by keyword, None deletes."""
    d = Dataset()
    d.SOPClassUID, d.SOPInstanceUID = CTImageStorage, f"{SERIES_UID}.{number}"
    d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID = STUDY_UID, SERIES_UID, FRAME_UID
    d.Modality, d.ImageType, d.BodyPartExamined = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], "HEAD"
    d.PatientName, d.PatientID = "Doe^Jane", "P1"
    d.SeriesDescription, d.ContrastBolusAgent, d.ConvolutionKernel = "CTA HEAD", "IODINE", "H30f"
    d.SeriesNumber, d.InstanceNumber, d.AcquisitionNumber = 4, number, 1
    d.ImagePositionPatient = [f"{v:.6f}" for v in position]
    d.ImageOrientationPatient, d.PixelSpacing, d.SliceThickness = list(AXIAL), [0.5, 0.5], 1.0
    d.Rows, d.Columns, d.SamplesPerPixel, d.PhotometricInterpretation = *hu.shape, 1, "MONOCHROME2"
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 12, 11, 0
    d.RescaleIntercept, d.RescaleSlope = INTERCEPT, 1
    d.PixelData = np.clip(hu.astype(np.int32) - INTERCEPT, 0, 4095).astype("<u2").tobytes()
    for keyword, value in attributes.items():
        if value is None:
            delattr(d, keyword)
        else:
            setattr(d, keyword, value)
    return d


def stack(zs: Sequence[float], **attributes: Any) -> list[Dataset]:
    """Axial slices of a head at these z, each with its own content."""
    return [image(head(seed=n), (-5.0, -6.0, z), n + 1, **attributes) for n, z in enumerate(zs)]


def write(folder: Path, datasets: Sequence[Dataset], syntax: str = ExplicitVRLittleEndian) -> list[Path]:
    """Save under names without meaning, in the order given."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for n, d in enumerate(datasets):
        d.file_meta = FileMetaDataset()
        d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if encapsulated(syntax) else syntax
        d.file_meta.MediaStorageSOPClassUID, d.file_meta.MediaStorageSOPInstanceUID = d.SOPClassUID, d.SOPInstanceUID
        if encapsulated(syntax):
            d.compress(syntax, generate_instance_uid=False)
        paths.append(folder / f"{n:04d}")
        d.save_as(paths[-1], enforce_file_format=True)
    return paths


def encapsulated(syntax: str) -> bool:
    return syntax.startswith("1.2.840.10008.1.2.4.") or syntax == "1.2.840.10008.1.2.5"


def field_image(
    field: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    position: Sequence[float],
    orientation: Sequence[float],
    spacing: tuple[float, float],
    shape: tuple[int, int],
    number: int,
) -> Dataset:
    """A slice of a field that is known everywhere: `field` takes LPS points (..., 3) and gives HU."""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    j, i = np.mgrid[: shape[0], : shape[1]]
    points = np.array(position) + i[..., None] * spacing[1] * row + j[..., None] * spacing[0] * column
    extra = {"ImageOrientationPatient": [f"{v:.10f}" for v in orientation], "PixelSpacing": list(spacing)}
    return image(np.rint(field(points)), position, number, **extra)


_OF_ALL_FRAMES = [
    *("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality", "ImageType", "PatientName", "PatientID"),
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "SeriesDescription"),
]


def enhanced(frames: Sequence[Dataset], sop_class: str = EnhancedCTImageStorage, **attributes: Any) -> Dataset:
    """Single-frame slices as one multi-frame object, geometry and rescale in functional groups."""
    first = frames[0]
    d = Dataset()
    for keyword in _OF_ALL_FRAMES:
        setattr(d, keyword, getattr(first, keyword))
    d.SOPClassUID, d.SOPInstanceUID, d.NumberOfFrames = sop_class, f"{SERIES_UID}.900", len(frames)

    def group(keyword: str, source: Dataset, *names: str) -> Dataset:
        item, inner = Dataset(), Dataset()
        for name in names:
            setattr(inner, name, getattr(source, name))
        setattr(item, keyword, [inner])
        return item

    shared = group("PlaneOrientationSequence", first, "ImageOrientationPatient")
    shared.update(group("PixelMeasuresSequence", first, "PixelSpacing", "SliceThickness"))
    d.SharedFunctionalGroupsSequence = [shared]
    own = []
    for one in frames:
        item = group("PlanePositionSequence", one, "ImagePositionPatient")
        item.update(group("PixelValueTransformationSequence", one, "RescaleSlope", "RescaleIntercept"))
        own.append(item)
    d.PerFrameFunctionalGroupsSequence = own
    d.PixelData = b"".join(one.PixelData for one in frames)
    for keyword, value in attributes.items():
        setattr(d, keyword, value)
    return d
