"""Whether an image's file goes on to the end of its pixel data: a copy that pauses, or broke off, looks like one that is done."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from conversion.elements import DEFLATED, Header

_TAIL_BYTES: Final = 1 << 20
_DELIMITER: Final = b"\xfe\xff\xdd\xe0\0\0\0\0"
"""Sequence Delimitation Item after the last fragment (PS3.5 A.4)."""


def cut_short(path: Path, header: Header) -> bool:
    """Whether a file ends before its pixel data does, going by the stated length, or by the delimiter of encapsulated ones.

    False for a file without pixel data, and for a deflated one, whose size says nothing.

    Raises
    ------
    OSError
        The file cannot be read now.
    """
    pixels, size = header.pixels, path.stat().st_size
    if pixels is None or header.transfer_syntax_uid == DEFLATED:
        return False
    if pixels.length is not None:
        return pixels.offset + pixels.length > size
    with path.open("rb") as file:
        file.seek(max(pixels.offset, size - _TAIL_BYTES))
        return _DELIMITER not in file.read()
