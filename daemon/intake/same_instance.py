"""Whether two files of one SOP Instance UID hold the same image, though their bytes differ.

A PACS may write what it has received in another way: another implementation's meta header, implicit instead of explicit VRs,
private elements more or less. That is no other image. It counts as the same when patient, study, geometry and everything that gives
the pixels their meaning are equal, and the pixels are, byte for byte. Only uncompressed pixels are compared: decoders of compressed
ones are the worker's, whose end by a damaged file stops nobody else. Multi-frame objects are not compared either.

And whether the second file holds the whole of an image of which the first one holds a part.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from conversion.elements import Header, damage_is_unreadable, read_header, text, unsigned
from conversion.headers import INSTANCE_TAGS, instance_of
from corewatch.errors import NotAnalysed
from daemon.intake.truncation import cut_short

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


def same_image(first: Path, second: Path) -> bool:
    """Whether both files hold the same image; False wherever that cannot be said for sure.

    Raises
    ------
    OSError
        A file cannot be read now.
    """
    headers = _alike(first, second)
    return headers is not None and instance_of(headers[0]).frames <= 1 and _same_pixels(first, second, *headers)


def mends(first: Path, second: Path) -> bool:
    """Whether the first file ends before its pixel data does, and the second is the same image to its end.

    So it is where a copy broke off, and what was there of it was taken in. Pixels are compared as far as the first file goes, in
    the encoding that they have.

    Raises
    ------
    OSError
        A file cannot be read now.
    """
    headers = _alike(first, second)
    if headers is None or _encoding(headers[0]) != _encoding(headers[1]):
        return False
    return cut_short(first, headers[0]) and not cut_short(second, headers[1]) and _goes_on(first, second, *headers)


def _alike(first: Path, second: Path) -> tuple[Header, Header] | None:
    """Both headers, where they say the same of patient, study, geometry and pixels; None where they do not, or cannot be read."""
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
    return _alike_bytes(first, here.offset, second, there.offset, here.length)


def _goes_on(part: Path, whole: Path, of_part: Header, of_whole: Header) -> bool:
    here, there = of_part.pixels, of_whole.pixels
    if here is None or there is None:
        return False
    return _alike_bytes(part, here.offset, whole, there.offset, part.stat().st_size - here.offset)


def _alike_bytes(first: Path, here: int, second: Path, there: int, count: int) -> bool:
    """Whether so many bytes from these offsets on are there in both files, and the same."""
    with first.open("rb") as a, second.open("rb") as b:
        a.seek(here)
        b.seek(there)
        while count > 0:
            piece = a.read(min(count, _CHUNK))
            if not piece or piece != b.read(len(piece)):
                return False
            count -= len(piece)
    return True
