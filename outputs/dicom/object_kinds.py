"""The kinds of DICOM objects that a result is made of, and how their series stand in the study. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from corewatch.identity import RESULT_SERIES


class ObjectKind(StrEnum):
    """A kind of object; its value is its name in the settings, and what the names of its files in `dicom/` begin with."""

    SC = "sc"
    """Secondary Captures: the summary page and the overlay slices, for every viewer."""
    SEG = "seg"
    """Segmentation: the outline of the core map on the slices of the source."""
    PMAP = "pmap"
    """Parametric Map: the core map itself, on its own grid in the source's frame of reference."""
    SR = "sr"
    """Structured report (TID 1500): volume, range, side and quality as numbers and codes."""
    KOS = "kos"
    """Key Object Selection: points at the summary page."""


_PLACES: Final = {ObjectKind.SC: 0, ObjectKind.SEG: 20, ObjectKind.PMAP: 40, ObjectKind.SR: 60, ObjectKind.KOS: 80}
"""Distance of each kind's Series Number from the first; the gaps are for revisions."""

_NAMES: Final = {
    ObjectKind.SC: "summary",
    ObjectKind.SEG: "segmentation",
    ObjectKind.PMAP: "map",
    ObjectKind.SR: "report",
    ObjectKind.KOS: "key image",
}

SERIES_NUMBER: Final = 9700
"""Far above what scanners use, so that the results stand at the end of the study."""

DESCRIPTION: Final = "{object} (research only)"

_LONG: Final = 64  # characters of a Long String (LO), PS3.5 6.2


@dataclass(frozen=True, slots=True)
class SeriesNaming:
    """How the series stand in the study.

    Attributes
    ----------
    number
        Series Number of the Secondary Captures; the other kinds follow at 20, 40, 60 and 80 more, each revision at 1 more.
    description
        What follows "corewatch ischemic core" in the Series Description; ``{object}`` stands for the kind in a word or two. The
        beginning is fixed: by it results are known when a PACS sends them back.
    manufacturer
        Manufacturer (0008,0070).

    Raises
    ------
    ValueError
        If `description` names another field than ``{object}``.
    """

    number: int = SERIES_NUMBER
    description: str = DESCRIPTION
    manufacturer: str = "corewatch"

    def __post_init__(self) -> None:
        try:
            self.description.format(object="")
        except (KeyError, IndexError, ValueError, AttributeError):
            raise ValueError("a series description knows the field {object} alone") from None

    def number_of(self, kind: ObjectKind, revision: int) -> int:
        """Series Number (0020,0011)."""
        return self.number + _PLACES[kind] + revision - 1

    def description_of(self, kind: ObjectKind, revision: int) -> str:
        """Series Description (0008,103E), at most 64 characters of ASCII; the revision is never cut off."""
        later = f", rev. {revision}" if revision > 1 else ""
        text = as_ascii(f"{RESULT_SERIES} {self.description.format(object=_NAMES[kind])}".strip())
        return text[: _LONG - len(later)] + later


def as_ascii(text: str) -> str:
    """Text that means the same in every Specific Character Set, which is the source's and not ours to choose."""
    return text.encode("ascii", "replace").decode().replace("\\", "/").replace("~", "-")
