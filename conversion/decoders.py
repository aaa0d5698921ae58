"""Decoding of pixel data, one frame at a time, to stored values, without rescale.

One library decodes every encoding: `imagecodecs`, with OpenJPEG, CharLS, libjpeg-turbo and an RLE decoder. Measured, it is at least
as fast as any other for each encoding, and it releases Python's global lock, so that threads use all cores. No part of it is under
the GPL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import generate_frames
from pydicom.uid import UID

from conversion.codestreams import jpeg_2000_size, jpeg_size
from conversion.elements import DAMAGE

Stored = NDArray[Any]
"""Stored values of one frame: an integer array of shape (rows, columns)."""

NATIVE: Final = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"})
"""Transfer syntaxes without compression of the pixel data; .99 is deflated as a whole."""

BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """Image Pixel module (PS3.3 C.7.6.3) of a greyscale image.

    Attributes
    ----------
    padding
        Pixel Padding Value (0028,0120) and Range Limit (0028,0121) as unsigned words in the order found; None where absent.
    """

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    samples: int
    photometric: str
    padding: tuple[int, int] | None

    @property
    def frame_bytes(self) -> int:
        """Size of one frame without compression."""
        return self.rows * self.columns * self.samples * self.bits_allocated // 8

    def native_dtype(self, big_endian: bool) -> np.dtype[Any]:
        """Type of the stored values in a file without compression."""
        return np.dtype(f"{'>' if big_endian else '<'}{'i' if self.signed else 'u'}{self.bits_allocated // 8}")


class DecodingError(Exception):
    """A frame could not be decoded."""


@dataclass(frozen=True, slots=True)
class _Codec:
    """One decoder of code streams: its name, whether this build of the library has it, and how it is called.

    `size` reads (rows, columns) from a code stream; None for an encoding that does not announce them.
    """

    name: str
    present: Callable[[], bool]
    decode: Callable[[bytes, PixelFormat], Stored]
    size: Callable[[bytes], tuple[int, int]] | None


def _run_lengths(frame: bytes, pixels: PixelFormat) -> Stored:
    dtype = pixels.native_dtype(big_endian=False)
    values = imagecodecs.dicomrle_decode(frame, dtype, out=pixels.frame_bytes)
    if len(values) != pixels.frame_bytes:
        raise DecodingError("the decoder returned an image of another size")
    return np.frombuffer(values, dtype).reshape(pixels.rows, pixels.columns)


_JPEG: Final = _Codec(
    "libjpeg-turbo",
    lambda: bool(imagecodecs.JPEG8.available and imagecodecs.JPEG8.all_precisions),
    lambda frame, _: imagecodecs.jpeg8_decode(frame),
    jpeg_size,
)
_JPEG_LS: Final = _Codec(
    "CharLS", lambda: imagecodecs.JPEGLS.available, lambda frame, _: imagecodecs.jpegls_decode(frame), jpeg_size
)
_JPEG_2000: Final = _Codec(
    "OpenJPEG", lambda: imagecodecs.JPEG2K.available, lambda frame, _: imagecodecs.jpeg2k_decode(frame), jpeg_2000_size
)
_RLE: Final = _Codec("imcd", lambda: imagecodecs.DICOMRLE.available, _run_lengths, None)

_CODECS: Final = {
    "1.2.840.10008.1.2.5": _RLE,
    **{f"1.2.840.10008.1.2.4.{number}": _JPEG for number in (50, 51, 53, 55, 57, 70)},
    **{f"1.2.840.10008.1.2.4.{number}": _JPEG_LS for number in (80, 81)},
    **{f"1.2.840.10008.1.2.4.{number}": _JPEG_2000 for number in (90, 91, 201, 202, 203)},
}
"""JPEG processes 6 and 8 (.53) and 10 and 12 (.55) are retired, but old archives hold them. High-throughput JPEG 2000 (.201 to
.203) is decoded by OpenJPEG: OpenJPH is faster, but returns a truncated image as if it were whole."""


@cache
def decoders() -> dict[str, str]:
    """Transfer syntax UID -> name of its decoder, for every encoding that the installed libraries decode."""
    return dict.fromkeys(NATIVE, "native") | {syntax: codec.name for syntax, codec in _CODECS.items() if codec.present()}


def name_of(syntax: str) -> str:
    """Name and UID of a transfer syntax, for messages."""
    uid = UID(syntax)
    return f"{uid.name} ({syntax})" if uid.name != syntax else syntax


def decode_encapsulated(value: bytes, indices: Sequence[int], frames: int, pixels: PixelFormat, syntax: str) -> Iterator[Stored]:
    """Decode frames of an encapsulated pixel data element (PS3.5 A.4).

    Parameters
    ----------
    value
        The element's value: basic offset table and fragments.
    indices
        Which frames, from 0, ascending.
    frames
        How many frames the element holds.

    Raises
    ------
    DecodingError
        The decoder failed, or its result differs from the header.
    """
    wanted = set(indices)
    try:
        for index, frame in enumerate(generate_frames(value, number_of_frames=frames)):
            if index in wanted:
                yield _decode(_CODECS[syntax], frame, pixels)
    except DAMAGE as error:
        raise DecodingError(str(error).splitlines()[0] if str(error) else type(error).__name__) from error


def _decode(codec: _Codec, frame: bytes, pixels: PixelFormat) -> Stored:
    """Values in the type of the header. The header also decides the sign, which is often wrong in code streams."""
    if codec.size is not None and codec.size(frame) != (pixels.rows, pixels.columns):
        raise DecodingError("the code stream announces an image of another size")
    decoded = codec.decode(frame, pixels)
    if decoded.shape != (pixels.rows, pixels.columns) or decoded.dtype.kind not in "iu":
        raise DecodingError("the decoder returned an image of another size")
    if decoded.dtype.itemsize * 8 > pixels.bits_allocated:
        raise DecodingError("the decoder returned more bits than are allocated")
    return decoded.astype(pixels.native_dtype(big_endian=False), copy=False)
