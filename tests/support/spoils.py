"""What can be wrong with a series: each changes the slices of a good one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage

SPECIAL = "SPECIAL"
"""Series with this word go to a model that is not installed."""

Spoil = Callable[[Dataset, int], bool]
"""Changes the k-th slice from below; False leaves the slice out."""


def few(_dataset: Dataset, k: int) -> bool:
    return k < 12


def gap(_dataset: Dataset, k: int) -> bool:
    return not 50 <= k < 70


def other_modality(dataset: Dataset, _k: int) -> bool:
    dataset.Modality, dataset.SOPClassUID = "MR", MRImageStorage
    dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage
    return True


def knee(dataset: Dataset, _k: int) -> bool:
    dataset.BodyPartExamined, dataset.StudyDescription = "KNEE", "CT KNEE"
    dataset.SeriesDescription, dataset.ProtocolName = "KNEE 1.0", "KNEE"
    return True


def bottle(dataset: Dataset, _k: int) -> bool:
    """A phantom of water, called a head."""
    rows, columns = np.ogrid[: dataset.Rows, : dataset.Columns]
    inside = (rows - dataset.Rows / 2) ** 2 + (columns - dataset.Columns / 2) ** 2 < (0.35 * dataset.Rows) ** 2
    stored = np.where(inside, 0, -1000) - int(dataset.RescaleIntercept)
    dataset.PixelData = stored.astype("<i2" if dataset.PixelRepresentation else "<u2").tobytes()
    return True


def cut_short(dataset: Dataset, _k: int) -> bool:
    dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 2 // 2 * 2]
    return True


def without_model(dataset: Dataset, _k: int) -> bool:
    """It goes to a model that is not installed."""
    dataset.SeriesDescription = f"{SPECIAL} CTA HEAD"
    return True
