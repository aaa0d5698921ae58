"""Image size of JPEG and JPEG 2000 code streams, read before they are decoded.

Decoders trust the code stream: one damaged byte in its size makes them allocate gigabytes, or count tiles for minutes. So the size
is compared with the DICOM header first.
"""

from __future__ import annotations

import struct
from typing import Final

_SOC_SIZ: Final = b"\xff\x4f\xff\x51"
"""Start of a JPEG 2000 code stream and its Image and tile size segment (ISO/IEC 15444-1 A.4.1, A.5.1)."""

_JP2: Final = b"\0\0\0\x0cjP  \r\n\x87\n"
"""Start of a JP2 file (ISO/IEC 15444-1 I.5.1), which is not allowed there (PS3.5 A.4.4) but occurs."""

_MOST_TILES: Final = 4096
"""Most tiles of one image; those of 512 x 512 pixels in tiles of 8 x 8."""

_FRAME_HEADERS: Final = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
"""Markers SOF0 to SOF15 of JPEG (ISO/IEC 10918-1 B.1.1.3) and SOF55 of JPEG-LS (ISO/IEC 14495-1 C.1.1)."""

_END_OF_IMAGE: Final = b"\xff\xd9"
_PADDING: Final = b"\0\xff"
"""What may follow the end: a null makes the length of a fragment even (PS3.5 A.4), and fill bytes are allowed before any marker."""


def jpeg_2000_size(frame: bytes) -> tuple[int, int]:
    """Rows and columns of a JPEG 2000 image of one component, HTJ2K too.

    Raises
    ------
    ValueError
        Not a JPEG 2000 image of one component, or one with more tiles than any encoder makes.
    """
    at = _code_stream(frame)
    if frame[at : at + 4] != _SOC_SIZ or len(frame) < at + 45:
        raise ValueError("it is no JPEG 2000 code stream")
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, components = struct.unpack_from(">8LH", frame, at + 8)
    step_x, step_y = frame[at + 43], frame[at + 44]
    if (components, step_x, step_y) != (1, 1, 1):
        raise ValueError("it is no image of one component")
    if not (tile_width and tile_height and tile_left <= left < right and tile_top <= top < bottom):
        raise ValueError("its tiles are impossible")
    if -(-(right - tile_left) // tile_width) * -(-(bottom - tile_top) // tile_height) > _MOST_TILES:
        raise ValueError("it has too many tiles")
    return bottom - top, right - left


def _code_stream(frame: bytes) -> int:
    """Where the code stream begins: at the start or in the first box `jp2c` of a JP2 file (I.4). Another box may hold its like."""
    if not frame.startswith(_JP2):
        return 0
    at = 0
    while at + 16 <= len(frame):
        length, kind = struct.unpack_from(">L4s", frame, at)
        head = 8
        if length == 1:  # the length follows the type
            (length,), head = struct.unpack_from(">Q", frame, at + 8), 16
        if kind == b"jp2c":
            return at + head
        if length < head:
            break
        at += length
    raise ValueError("it is no JPEG 2000 code stream")


def jpeg_size(frame: bytes) -> tuple[int, int]:
    """Rows and columns of a JPEG or JPEG-LS image of one component.

    Raises
    ------
    ValueError
        Not a JPEG image of one component, or one without its end: libjpeg would fill in the missing part silently.
    """
    if not frame.rstrip(_PADDING).endswith(_END_OF_IMAGE):
        raise ValueError("it is cut short")
    at = 2
    while frame[:2] == b"\xff\xd8" and at + 10 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF:  # a fill byte, B.1.1.2
            at += 1
        elif marker in _FRAME_HEADERS:
            rows, columns, components = struct.unpack_from(">HHB", frame, at + 5)
            if components != 1:
                raise ValueError("it is no image of one component")
            return int(rows), int(columns)
        else:
            at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    raise ValueError("it is no JPEG image")
