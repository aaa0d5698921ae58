"""DICOM header reader: opens files and reads single elements, tolerant of the deviations of real scanners and archives.

Values are taken from the raw bytes of an element, not through its declared VR: a decimal string that is no number, or a wrong VR,
makes one value unreadable and never the file.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any, BinaryIO, Final

import pydicom
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import _read_file_meta_info

from conversion.inflate import EXPLICIT_LITTLE, LARGEST_HEADER, inflated
from corewatch.errors import NotAnalysed
from corewatch.reasons import Reason

UNDEFINED_LENGTH: Final = 0xFFFFFFFF
"""PS3.5 7.1: the length of a value that ends with a delimiter."""

PIXEL_DATA: Final = 0x7FE00010
SPECIFIC_CHARACTER_SET: Final = 0x00080005

DEFLATED: Final = "1.2.840.10008.1.2.1.99"

DAMAGE: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
    BytesLengthException,
    InvalidDicomError,
)
"""Exceptions of readers and decoders on damaged files. Not every `Exception`: a task's time limit is one too."""

_MOST_READS: Final = 2_000_000
"""Most reads of one header, a few for each element. A multi-frame object of thousands of frames needs some hundred thousand."""
_PREFIX_BYTES: Final = 132
_META_BYTES: Final = 1024
"""Largest ordinary meta header, in bytes."""
_META_VRS: Final = frozenset({b"UL", b"OB", b"UI", b"SH", b"AE"})
"""Value representations of an ordinary meta header (PS3.10 Table 7.1-1)."""

_WITH_LONG_LENGTH: Final = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_INTEGER_STRING_END: Final = 2**31
_DECIMAL: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
"""A decimal string (PS3.5 6.2): Python would also read `1_0`, `nan` and digits of other scripts."""
_TEXT_NUMBERS: Final = frozenset({"DS", "IS", "LO", "SH", "CS", "ST", "LT", "UT"})


@dataclass(frozen=True, slots=True)
class PixelElement:
    """Position of (7FE0,0010) Pixel Data in its file, in bytes.

    `start` is where the element begins, `offset` where its value does; `length` is None where encapsulated.
    """

    start: int
    offset: int
    length: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Header:
    """Elements of one file before its pixel data.

    Attributes
    ----------
    dataset
        Only the elements that were asked for.
    transfer_syntax_uid
        As the file declares it, or as its bytes show where it does not.
    pixels
        None where the file has no pixel data. In a deflated file the position after `open_dicom` has inflated it.
    """

    dataset: Dataset
    transfer_syntax_uid: str
    pixels: PixelElement | None


def read_header(path: Path, tags: list[int]) -> Header:
    """Read the elements `tags` of a file, and find its pixel data without reading it.

    Raises
    ------
    NotAnalysed
        `UNREADABLE`, where the file is not DICOM.
    OSError
        The file could not be opened or read.
    """
    with open_dicom(path) as (file, deflated), damage_is_unreadable("its header cannot be read"):
        dataset = pydicom.dcmread(FewReads(file), stop_before_pixels=True, force=True, specific_tags=tags)
        implicit, little = dataset.original_encoding
        said = DEFLATED if deflated else str(dataset.file_meta.get("TransferSyntaxUID", "") or "")
        syntax = said or _syntax_from_bytes(implicit, little)
        return Header(dataset, syntax, _find_pixels(file, bool(implicit), bool(little)))


class FewReads:
    """A file that limits the number of reads: a file of zeros, for example, is an endless series of elements of eight bytes."""

    def __init__(self, file: BufferedIOBase) -> None:
        self._read = file.read
        self._left = _MOST_READS
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """Read as a file does; raises `ValueError` after too many calls."""
        self._left -= 1
        if self._left < 0:
            raise ValueError("more elements than any header has")
        return self._read(size)


@contextmanager
def open_dicom(path: Path, inflate_at_most: int | None = LARGEST_HEADER) -> Iterator[tuple[BufferedIOBase, bool]]:
    """Open a file at its beginning. Returns it, inflated where it is deflated (PS3.5 A.5), and whether it was deflated.

    It is inflated as it is read: at most this many bytes, with which the header ends; None for a reader that takes no more than a
    header has announced.

    Raises
    ------
    NotAnalysed
        `UNREADABLE`, where the file is not DICOM, or a deflated one that is damaged.
    OSError
        The file could not be opened or read.
    """
    with path.open("rb") as file:
        if not looks_like_dicom(file.read(_PREFIX_BYTES)):
            raise NotAnalysed(Reason.UNREADABLE, "A file is not DICOM.")
        with damage_is_unreadable("its header cannot be read"):
            begin = deflated_from(file)
        if begin is not None:
            yield inflated(file, begin, inflate_at_most), True
            return
        file.seek(0)
        yield file, False


def deflated_from(file: BinaryIO) -> int | None:
    """Where the deflated data set of a file begins (PS3.5 A.5), in bytes; None where it is not deflated.

    pydicom's reader inflates such a file as a whole first, and half a megabyte inflates to any size. So this function finds the
    transfer syntax as that reader would: also without a preamble, and after other elements of any length.

    Raises
    ------
    Exceptions that `damage_is_unreadable` turns into `NotAnalysed`
        The meta header is damaged.
    """
    file.seek(0)
    start = file.read(_META_BYTES)
    begin = 132 if start[128:132] == b"DICM" else 0
    syntax, end = _plain_meta(start, begin)
    if end is None:
        file.seek(begin)
        syntax = str(_read_file_meta_info(file).get("TransferSyntaxUID", ""))
        end = file.tell()
    return end if syntax.strip("\0 ") == DEFLATED else None


def _plain_meta(start: bytes, at: int) -> tuple[str, int | None]:
    """Transfer syntax and end of an ordinary, short meta header; the end is None where it is unusual and must be parsed."""
    syntax = ""
    while start[at : at + 2] == b"\x02\0":
        vr = start[at + 4 : at + 6]
        if vr not in _META_VRS:
            return "", None
        long = vr == b"OB"
        value = at + (12 if long else 8)
        length = int.from_bytes(start[at + 8 : at + 12] if long else start[at + 6 : at + 8], "little")
        if start[at + 2 : at + 4] == b"\x10\0":
            syntax = start[value : value + length].decode("ascii", "replace")
        at = value + length
    return syntax, at if at + 4 <= len(start) else None


@contextmanager
def damage_is_unreadable(what: str) -> Iterator[None]:
    """Turn the exceptions of a reader on a damaged file into `NotAnalysed(UNREADABLE)`."""
    try:
        yield
    except DAMAGE as error:
        raise NotAnalysed(Reason.UNREADABLE, f"A file is damaged: {what}.") from error
    except OSError as error:
        if error.errno is not None:  # an error of the operating system; pydicom raises some without a number
            raise
        raise NotAnalysed(Reason.UNREADABLE, f"A file is damaged: {what}.") from error


def looks_like_dicom(start: bytes) -> bool:
    """Whether the bytes start with the prefix of PS3.10 7.1, or with an element of the first groups of plausible VR or length."""
    if start[128:132] == b"DICM":
        return True
    if len(start) < 8 or start[:2] not in (b"\x02\x00", b"\x08\x00", b"\x00\x08"):
        return False
    named = start[4:6].isalpha() and start[4:6].isupper()
    return named or int.from_bytes(start[4:8], "little") <= 64


def _syntax_from_bytes(implicit: bool | None, little: bool | None) -> str:
    if implicit:
        return "1.2.840.10008.1.2"
    return EXPLICIT_LITTLE if little else "1.2.840.10008.1.2.2"


def _find_pixels(file: BufferedIOBase, implicit: bool, little: bool) -> PixelElement | None:
    """Read tag, VR and length at the file's position (PS3.5 7.1), where the header reader stopped before the pixel data."""
    order = "<" if little else ">"
    begin = file.read(12)
    if len(begin) < 8:
        return None
    group, element = struct.unpack(f"{order}HH", begin[:4])
    if (group << 16 | element) != PIXEL_DATA:
        return None
    start = file.tell() - len(begin)
    offset = start + 8
    # a meta header may name the other kind of VR than the data set has. A VR and its two nulls, read as a length, would be odd, and
    # lengths are even (7.1.1): so the bytes show which kind it is
    if begin[4:6] in _WITH_LONG_LENGTH and begin[6:8] == b"\0\0":
        if len(begin) < 12:
            return None
        length, offset = struct.unpack(f"{order}L", begin[8:12])[0], offset + 4
    elif implicit or not (begin[4:6].isalpha() and begin[4:6].isupper()):
        length = struct.unpack(f"{order}L", begin[4:8])[0]
    else:
        length = struct.unpack(f"{order}H", begin[6:8])[0]
    return PixelElement(start, offset, None if length == UNDEFINED_LENGTH else length)


def raw_value(dataset: Dataset, tag: int) -> Any:
    """Raw bytes of an element; its value where it was converted already; None where absent."""
    if tag not in dataset:
        return None
    return dataset.get_item(tag).value


def text(dataset: Dataset, tag: int) -> str:
    """An element as text, stripped; empty where absent. Several values stay joined by backslashes."""
    value = raw_value(dataset, tag)
    if value is None:
        return ""
    if not isinstance(value, bytes):
        return "\\".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    try:
        decoded = value.decode("ascii")
    except UnicodeDecodeError:
        decoded = _decode(value, dataset)
    return decoded.strip(" \0\r\n\t")


def _decode(value: bytes, dataset: Dataset) -> str:
    """Decode with (0008,0005) Specific Character Set; undecodable bytes become a replacement character.

    Where none is declared, bytes that are UTF-8 are read so: by chance other text hardly ever is.
    """
    declared = text(dataset, SPECIFIC_CHARACTER_SET).split("\\")
    if declared == [""]:
        with suppress(UnicodeDecodeError):
            return value.decode("utf-8")
    try:
        return str(decode_bytes(value, convert_encodings(declared), set()))
    except (LookupError, ValueError):
        return value.decode("latin-1")


def texts(dataset: Dataset, tag: int) -> tuple[str, ...]:
    """A multi-valued text element; empty where absent."""
    joined = text(dataset, tag)
    return tuple(part.strip(" \0") for part in joined.split("\\")) if joined else ()


def numbers(dataset: Dataset, tag: int, count: int) -> tuple[float, ...] | None:
    """Exactly `count` finite decimal numbers (DS); None where absent or otherwise."""
    values = tuple(value for part in texts(dataset, tag) if (value := _decimal(part)) is not None)
    return values if len(values) == count == len(texts(dataset, tag)) else None


def number(dataset: Dataset, tag: int) -> float | None:
    """One finite decimal number (DS), the first where there are several; None where absent or not a number."""
    parts = texts(dataset, tag)
    return _decimal(parts[0]) if parts else None


def _decimal(words: str) -> float | None:
    value = float(words) if _DECIMAL.fullmatch(words) else float("inf")
    return value if abs(value) < float("inf") else None


def integer(dataset: Dataset, tag: int) -> int | None:
    """One integer string (IS), the first where there are several; None where absent, not a number or out of range (PS3.5 6.2)."""
    value = number(dataset, tag)
    return round(value) if value is not None and abs(value) < _INTEGER_STRING_END else None


def unsigned(dataset: Dataset, tag: int) -> int | None:
    """One binary integer (US, SS or UL) as an unsigned number; None where absent or empty."""
    if tag not in dataset:
        return None
    item = dataset.get_item(tag)
    value = item.value
    if isinstance(value, int):
        return value
    if not isinstance(value, bytes) or not isinstance(item, RawDataElement):
        return None
    if item.VR in _TEXT_NUMBERS:
        return integer(dataset, tag)
    width = 4 if len(value) == 4 and item.VR in ("UL", "SL") else 2
    return int.from_bytes(value[:width], "little" if item.is_little_endian else "big") if len(value) >= width else None


def sequence(dataset: Dataset, tag: int) -> list[Dataset]:
    """Items of a sequence; empty where absent or not a sequence."""
    if tag not in dataset:
        return []
    value = dataset[tag].value
    return list(value) if isinstance(value, pydicom.Sequence) else []
