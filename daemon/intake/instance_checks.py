"""Checks on files of SOP instances: truncated, the same instance in another encoding, the complete copy of a truncated one.

A PACS may write an instance in another way than it received it: another implementation's meta header, implicit instead of explicit
VRs, other private elements. Two files count as the same instance when patient, study, geometry and everything that gives the pixels
their meaning are equal, and the pixels are equal byte for byte. Only uncompressed single frames are compared: decoders run in the
worker alone, where a damaged file that ends the process stops nothing else.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from conversion.elements import Header, damage_is_unreadable, read_header, text, unsigned
from conversion.headers import INSTANCE_TAGS, instance_of
from conversion.truncation import is_truncated
from corewatch.errors import NotAnalysed

IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"
EXPLICIT_LITTLE: Final = "1.2.840.10008.1.2.1"
_CHUNK: Final = 1 << 20

_IDENTITY: Final = (
    0x00080050,  # Accession Number
    0x00100010,  # Patient's Name
    0x00100020,  # Patient ID
    0x00100030,  # Patient's Birth Date
    0x00080020,  # Study Date
    0x00200032,  # Image Position (Patient), as it is written
    0x00200037,  # Image Orientation (Patient)
    0x00180088,  # Spacing Between Slices
)
_MEANING: Final = (0x00280004, 0x00281052, 0x00281053)
"""Photometric Interpretation, Rescale Intercept and Slope (PS3.3 C.7.6.3, C.11.1)."""
_FORMAT: Final = (0x00280002, 0x00280100, 0x00280101, 0x00280102, 0x00280103)
"""Samples per Pixel, Bits Allocated, Bits Stored, High Bit, Pixel Representation (PS3.3 C.7.6.3)."""


def same_instance(first: Path, second: Path) -> bool:
    """Whether both files hold the same instance; False where that is not certain.

    Raises
    ------
    OSError
        A file cannot be read now.
    """
    headers = _equal_headers(first, second)
    return headers is not None and instance_of(headers[0]).frames <= 1 and _same_pixels(first, second, *headers)


def completes(first: Path, second: Path) -> bool:
    """Whether the first file is truncated, and the second is the same instance and complete.

    Pixels are compared up to the end of the first file, as encoded.

    Raises
    ------
    OSError
        A file cannot be read now.
    """
    headers = _equal_headers(first, second)
    if headers is None or _encoding(headers[0]) != _encoding(headers[1]):
        return False
    return is_truncated(first, headers[0]) and not is_truncated(second, headers[1]) and _is_continued(first, second, *headers)


def _equal_headers(first: Path, second: Path) -> tuple[Header, Header] | None:
    """Both headers, if they agree on patient, study, geometry and pixel format; None if not, or if one cannot be read."""
    tags = [*INSTANCE_TAGS, *_IDENTITY, *_MEANING, *_FORMAT]
    try:
        one, other = read_header(first, tags), read_header(second, tags)
        with damage_is_unreadable("its header cannot be read"):
            return (one, other) if _meaning(one) == _meaning(other) else None
    except NotAnalysed:
        return None


def _encoding(header: Header) -> str:
    return "" if header.transfer_syntax_uid in {IMPLICIT_LITTLE, EXPLICIT_LITTLE} else header.transfer_syntax_uid


def _meaning(header: Header) -> object:
    instance = replace(instance_of(header), transfer_syntax_uid="", instances_in_series=None)
    texts = [text(header.dataset, tag) for tag in (*_IDENTITY, *_MEANING)]
    return instance, texts, [unsigned(header.dataset, tag) for tag in _FORMAT]


def _same_pixels(first: Path, second: Path, one: Header, other: Header) -> bool:
    if not {one.transfer_syntax_uid, other.transfer_syntax_uid} <= {IMPLICIT_LITTLE, EXPLICIT_LITTLE}:
        return False
    here, there = one.pixels, other.pixels
    if here is None or there is None or here.length is None or here.length != there.length:
        return False
    return _equal_bytes(first, here.offset, second, there.offset, here.length)


def _is_continued(part: Path, whole: Path, of_part: Header, of_whole: Header) -> bool:
    here, there = of_part.pixels, of_whole.pixels
    if here is None or there is None:
        return False
    return _equal_bytes(part, here.offset, whole, there.offset, part.stat().st_size - here.offset)


def _equal_bytes(first: Path, here: int, second: Path, there: int, count: int) -> bool:
    """Whether both files have `count` equal bytes from these offsets on."""
    with first.open("rb") as a, second.open("rb") as b:
        a.seek(here)
        b.seek(there)
        while count > 0:
            piece = a.read(min(count, _CHUNK))
            if not piece or piece != b.read(len(piece)):
                return False
            count -= len(piece)
    return True
