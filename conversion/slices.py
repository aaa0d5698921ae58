"""Slices of a series before decoding: one value per frame, for single-frame and multi-frame files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset

from conversion.decoders import PixelFormat
from conversion.elements import (
    Header,
    PixelElement,
    damage_is_unreadable,
    number,
    numbers,
    read_header,
    sequence,
    text,
    texts,
    unsigned,
)
from conversion.headers import (
    INSTANCE_TAGS,
    PIXEL_MEASURES,
    PLANE_ORIENTATION,
    SHARED_GROUPS,
    group_of,
    instance_of,
    orientation_of,
    position_of,
    spacing_of,
)
from corewatch.errors import NotAnalysed
from corewatch.instance import Instance
from corewatch.reasons import Reason

PER_FRAME_GROUPS: Final = 0x52009230
"""(5200,9230) Per-Frame Functional Groups Sequence, PS3.3 C.7.6.16."""

_PATIENT_ID: Final = 0x00100020
_PLANE_POSITION: Final = 0x00209113
_PIXEL_VALUE_TRANSFORMATION: Final = 0x00289145
_FRAME_CONTENT: Final = 0x00209111
_CT_FRAME_TYPE: Final = 0x00189329
_FRAME_TYPE: Final = 0x00089007
_FRAME_ACQUISITION_NUMBER: Final = 0x00209156
_TEMPORAL_POSITION_INDEX: Final = 0x00209128
_INTERCEPT: Final = 0x00281052
_SLOPE: Final = 0x00281053

SLICE_TAGS: Final = [
    *INSTANCE_TAGS,
    _PATIENT_ID,
    0x00280002,  # Samples per Pixel
    0x00280004,  # Photometric Interpretation
    0x00280100,  # Bits Allocated
    0x00280101,  # Bits Stored
    0x00280102,  # High Bit
    0x00280103,  # Pixel Representation
    0x00280120,  # Pixel Padding Value
    0x00280121,  # Pixel Padding Range Limit
    _INTERCEPT,
    _SLOPE,
    0x00281054,  # Rescale Type
    PER_FRAME_GROUPS,
]


_DECIMAL_STRINGS: Final = (
    (0x00200032, "Image Position (Patient)", 3),
    (0x00200037, "Image Orientation (Patient)", 6),
    (0x00280030, "Pixel Spacing", 2),
    (_INTERCEPT, "Rescale Intercept", 1),
    (_SLOPE, "Rescale Slope", 1),
)
"""Tag, name and number of values of the decimal strings that a volume needs."""

_DECIMAL_COMMA: Final = re.compile(r"\d,\d")


@dataclass(frozen=True, slots=True)
class Rescale:
    """Modality LUT (PS3.3 C.11.1): HU = slope * stored + intercept.

    Attributes
    ----------
    kind
        Rescale Type (0028,1054), empty where absent.
    given
        Whether the header has a slope, and an intercept; the defaults are 1 and 0.
    readable
        False where one of them is present and no number.
    """

    slope: float = 1.0
    intercept: float = 0.0
    kind: str = ""
    given: tuple[bool, bool] = (False, False)
    readable: bool = True


@dataclass(frozen=True, slots=True)
class Slice:
    """One frame of the series, not yet decoded.

    Attributes
    ----------
    instance
        The header index with this frame's own geometry; `frames` is 1.
    frame, frames_in_file
        Index of the frame in its file, from 0, and how many there are.
    element
        Position of the pixel data; None where there is none.
    unreadable
        Names of numbers in the header that are there and cannot be read, and whether a decimal comma is why.
    patient_id
        Patient ID (0010,0020), for comparison between slices; it is neither stored nor shown by `repr`.
    """

    instance: Instance
    path: Path
    frame: int
    frames_in_file: int
    pixels: PixelFormat
    rescale: Rescale
    element: PixelElement | None
    patient_id: str = field(repr=False)
    unreadable: tuple[tuple[str, bool], ...] = ()


def read_slices(paths: Iterable[Path], threads: int) -> list[Slice]:
    """Read the headers of all files of a series, in any order.

    Raises
    ------
    NotAnalysed
        `UNREADABLE`: a file is not DICOM or damaged. `NOT_A_VOLUME`: a multi-frame file without functional groups.
    OSError
        A file could not be opened or read.
    """
    with ThreadPoolExecutor(threads) as pool:
        return [one for slices in pool.map(slices_of_file, paths) for one in slices]


def slices_of_file(path: Path) -> tuple[Slice, ...]:
    """All frames of one file. Raises as `read_slices`."""
    header = read_header(path, SLICE_TAGS)
    with damage_is_unreadable("its header cannot be read"):
        instance = instance_of(header)
        pixels = _pixel_format(header.dataset, instance)
        rescale = _rescale_of(header.dataset, Rescale())
        patient_id = text(header.dataset, _PATIENT_ID)
        if PER_FRAME_GROUPS in header.dataset:
            return tuple(_enhanced_frames(path, header, instance, pixels, rescale, patient_id))
    if instance.frames > 1:
        raise NotAnalysed(Reason.NOT_A_VOLUME, "A multi-frame file does not say where its frames lie.")
    return (Slice(instance, path, 0, 1, pixels, rescale, header.pixels, patient_id, unreadable_numbers(header.dataset)),)


def unreadable_numbers(dataset: Dataset) -> tuple[tuple[str, bool], ...]:
    """Names of decimal strings that are there and cannot be read, each with whether a decimal comma is why."""
    found = []
    for tag, name, count in _DECIMAL_STRINGS:
        words = text(dataset, tag)
        if words and numbers(dataset, tag, count) is None:
            found.append((name, _DECIMAL_COMMA.search(words) is not None))
    return tuple(found)


def _enhanced_frames(
    path: Path, header: Header, instance: Instance, pixels: PixelFormat, rescale: Rescale, patient_id: str
) -> Iterator[Slice]:
    """Frames of Enhanced CT (PS3.3 A.38) or Legacy Converted Enhanced CT (A.70): per-frame groups override shared ones."""
    groups = sequence(header.dataset, PER_FRAME_GROUPS)
    if len(groups) != instance.frames:
        raise NotAnalysed(Reason.UNREADABLE, f"A multi-frame file announces {instance.frames} frames and describes {len(groups)}.")
    shared = next(iter(sequence(header.dataset, SHARED_GROUPS)), None)
    rescale = _rescale_of(group_of(shared, _PIXEL_VALUE_TRANSFORMATION), rescale)
    for frame, own in enumerate(groups):
        content = group_of(own, _FRAME_CONTENT)
        acquisition = None if content is None else unsigned(content, _FRAME_ACQUISITION_NUMBER)
        frame_type = _frame_type(own) or _frame_type(shared) or instance.image_type
        geometry = replace(
            instance,
            frames=1,
            image_type=frame_type,
            temporal_position=instance.temporal_position if content is None else unsigned(content, _TEMPORAL_POSITION_INDEX),
            acquisition_number=instance.acquisition_number if acquisition is None else acquisition,
            position_lps=position_of(group_of(own, _PLANE_POSITION)) or position_of(group_of(shared, _PLANE_POSITION)),
            orientation=orientation_of(group_of(own, PLANE_ORIENTATION)) or instance.orientation,
            pixel_spacing_mm=spacing_of(group_of(own, PIXEL_MEASURES)) or instance.pixel_spacing_mm,
        )
        own_rescale = _rescale_of(group_of(own, _PIXEL_VALUE_TRANSFORMATION), rescale)
        yield Slice(geometry, path, frame, instance.frames, pixels, own_rescale, header.pixels, patient_id)


def _frame_type(groups: Dataset | None) -> tuple[str, ...]:
    """Frame Type (0008,9007) of CT Image Frame Type (PS3.3 C.8.15.3.1): the Image Type of one frame."""
    item = group_of(groups, _CT_FRAME_TYPE)
    return () if item is None else texts(item, _FRAME_TYPE)


def _pixel_format(dataset: Dataset, instance: Instance) -> PixelFormat:
    allocated = unsigned(dataset, 0x00280100) or 0
    stored = unsigned(dataset, 0x00280101) or allocated
    padding = unsigned(dataset, 0x00280120)
    limit = unsigned(dataset, 0x00280121)
    return PixelFormat(
        rows=instance.rows or 0,
        columns=instance.columns or 0,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=(stored - 1 if (high_bit := unsigned(dataset, 0x00280102)) is None else high_bit),
        signed=unsigned(dataset, 0x00280103) == 1,
        samples=unsigned(dataset, 0x00280002) or 1,
        photometric=text(dataset, 0x00280004) or "MONOCHROME2",
        padding=None if padding is None else (padding, padding if limit is None else limit),
    )


def _rescale_of(dataset: Dataset | None, default: Rescale) -> Rescale:
    """Rescale of a dataset or functional group; each value that is absent comes from `default`."""
    if dataset is None:
        return default
    slope, intercept = number(dataset, _SLOPE), number(dataset, _INTERCEPT)
    readable = all(value is not None or not text(dataset, tag) for tag, value in ((_SLOPE, slope), (_INTERCEPT, intercept)))
    return Rescale(
        default.slope if slope is None else slope,
        default.intercept if intercept is None else intercept,
        text(dataset, 0x00281054) or default.kind,
        (slope is not None or default.given[0], intercept is not None or default.given[1]),
        readable and (default.readable or None not in (slope, intercept)),
    )
