"""The kinds of DICOM objects that a result is made of, and number and description of their series. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from pydicom.uid import (
    Comprehensive3DSRStorage,
    KeyObjectSelectionDocumentStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from config.delivery import ResultSeries
from corewatch.identity import RESULT_SERIES


class ObjectKind(StrEnum):
    """A kind of object. Its value is its name in the settings, and the first part of the names of its files in `dicom/`."""

    SC = "sc"
    """Secondary Captures: the summary page and the overlay slices, for every viewer."""
    SEG = "seg"
    """Segmentation: the outline of the core map on the slices of the source."""
    PMAP = "pmap"
    """Parametric Map: the core map itself, on its own grid in the source's frame of reference."""
    SR = "sr"
    """Structured report (TID 1500): volume, range, side and quality as numbers and codes."""
    KOS = "kos"
    """Key Object Selection: references the summary page."""


_NUMBER_OFFSETS: Final = {ObjectKind.SC: 0, ObjectKind.SEG: 20, ObjectKind.PMAP: 40, ObjectKind.SR: 60, ObjectKind.KOS: 80}
"""Distance of each kind's Series Number from `ResultSeries.number`; the gaps are for revisions."""

_NAMES: Final = {
    ObjectKind.SC: "summary",
    ObjectKind.SEG: "segmentation",
    ObjectKind.PMAP: "map",
    ObjectKind.SR: "report",
    ObjectKind.KOS: "key image",
}

SOP_CLASS: Final[Mapping[ObjectKind, str]] = {
    ObjectKind.SC: SecondaryCaptureImageStorage,
    ObjectKind.SEG: SegmentationStorage,
    ObjectKind.PMAP: ParametricMapStorage,
    ObjectKind.SR: Comprehensive3DSRStorage,
    ObjectKind.KOS: KeyObjectSelectionDocumentStorage,
}
"""SOP class of each kind's instances."""

_LONG: Final = 64  # characters of a Long String (LO), PS3.5 6.2


def series_number(series: ResultSeries, kind: ObjectKind, revision: int) -> int:
    """Series Number (0020,0011) of a kind's series; each revision is 1 higher."""
    return series.number + _NUMBER_OFFSETS[kind] + revision - 1


def series_description(series: ResultSeries, kind: ObjectKind, revision: int) -> str:
    """Series Description (0008,103E), at most 64 characters of ASCII; the revision is never cut off.

    It begins with `RESULT_SERIES`, by which results are recognised when a PACS sends them back.
    """
    later = f", rev. {revision}" if revision > 1 else ""
    text = as_ascii(f"{RESULT_SERIES} {series.description.format(object=_NAMES[kind])}".strip())
    return text[: _LONG - len(later)] + later


def as_ascii(text: str) -> str:
    """Text that is the same in every Specific Character Set (0008,0005): our objects have the one of their source."""
    return text.encode("ascii", "replace").decode().replace("\\", "/").replace("~", "-")
