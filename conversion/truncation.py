"""Truncated files: a copy that paused or broke off."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from conversion.elements import DEFLATED, Header, damage_is_unreadable, read_header
from conversion.headers import INSTANCE_TAGS, instance_of
from corewatch.errors import NotAnalysed
from corewatch.instance import Instance
from corewatch.reasons import Reason

_TAIL_BYTES: Final = 1 << 20
_DELIMITER: Final = b"\xfe\xff\xdd\xe0\0\0\0\0"
"""Sequence Delimitation Item after the last fragment (PS3.5 A.4)."""


def is_truncated(path: Path, header: Header) -> bool:
    """Whether a file ends before its pixel data does, by the stated length, or by the delimiter of encapsulated pixel data.

    A copy that pauses or broke off looks like a complete one otherwise. False for a file without pixel data, and for a deflated
    one, whose size says nothing.

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


def read_whole_instance(path: Path) -> Instance:
    """Header index of a file that is not truncated.

    Raises
    ------
    NotAnalysed
        `UNREADABLE`: not DICOM, damaged, truncated, or without a UID that identifies it.
    OSError
        The file could not be opened or read.
    """
    header = read_header(path, INSTANCE_TAGS)
    with damage_is_unreadable("its header cannot be read"):
        instance = instance_of(header)
    if is_truncated(path, header):
        raise NotAnalysed(Reason.UNREADABLE, "A file is cut short: its pixel data is incomplete.")
    return instance
