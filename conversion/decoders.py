"""Decoding of pixel data, one frame at a time, to the stored values: nothing is rescaled here.

The decoders are pydicom's plugins, in the order of what was measured to be fastest. pydicom leaves out the sequential and
progressive JPEG of 12 bits; GDCM is asked for those directly. Nothing under GPL is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import generate_frames
from pydicom.pixels import get_decoder
from pydicom.uid import UID, AllTransferSyntaxes

from conversion.elements import DAMAGE

Stored = NDArray[Any]
"""Stored values of one frame: an integer array of shape (rows, columns)."""

NATIVE: Final = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"})
"""Transfer syntaxes without compression of the pixel data; .99 is deflated as a whole."""

BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"

_PREFERRED: Final = {
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    "1.2.840.10008.1.2.4.90": "pylibjpeg",
    "1.2.840.10008.1.2.4.91": "pylibjpeg",
    "1.2.840.10008.1.2.5": "pylibjpeg",
}
_JPEG_12_BIT: Final = frozenset({f"1.2.840.10008.1.2.4.{number}" for number in (51, 53, 55)})
"""JPEG processes 2 and 4, 6 and 8, 10 and 12; the latter two are retired, but old archives hold them."""


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
        """How the stored values lie in the file without compression."""
        return np.dtype(f"{'>' if big_endian else '<'}{'i' if self.signed else 'u'}{self.bits_allocated // 8}")


class DecodingError(Exception):
    """A frame could not be decoded."""


@cache
def decoders() -> dict[str, str]:
    """Transfer syntax UID -> name of the decoder that is used for it: what really can be decoded with what is installed."""
    found = dict.fromkeys(NATIVE, "native")
    for syntax in AllTransferSyntaxes:
        try:
            decoder = get_decoder(syntax)
        except NotImplementedError:
            continue
        if decoder.is_encapsulated and decoder.is_available:
            preferred = _PREFERRED.get(syntax, "")
            found[str(syntax)] = preferred if preferred in decoder.available_plugins else decoder.available_plugins[0]
    if find_spec("gdcm") is not None:
        found.update(dict.fromkeys(_JPEG_12_BIT, "gdcm"))
    return found


def name_of(syntax: str) -> str:
    """A transfer syntax for people: its name and UID."""
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
        The decoder failed, or decoded something else than the header announces.
    """
    try:
        if syntax in _JPEG_12_BIT:
            wanted = set(indices)
            for index, frame in enumerate(generate_frames(value, number_of_frames=frames)):
                if index in wanted:
                    yield _decode_with_gdcm(frame, pixels, syntax)
            return
        options = {
            "rows": pixels.rows,
            "columns": pixels.columns,
            "number_of_frames": frames,
            "samples_per_pixel": 1,
            "photometric_interpretation": pixels.photometric,
            "bits_allocated": pixels.bits_allocated,
            "bits_stored": pixels.bits_stored,
            "pixel_representation": int(pixels.signed),
            "pixel_keyword": "PixelData",
        }
        decoder = get_decoder(UID(syntax))
        for stored, _ in decoder.iter_array(value, indices=list(indices), raw=True, decoding_plugin=decoders()[syntax], **options):
            yield stored.reshape(pixels.rows, pixels.columns)
    except BaseException as error:
        # a decoder written in Rust ends damaged data with an exception that is no Exception
        if not isinstance(error, DAMAGE) and type(error).__name__ != "PanicException":
            raise
        raise DecodingError(str(error).splitlines()[0] if str(error) else type(error).__name__) from error


def _decode_with_gdcm(frame: bytes, pixels: PixelFormat, syntax: str) -> Stored:
    """One JPEG frame through GDCM, whose libjpeg is built for 12 bits too."""
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((pixels.columns, pixels.rows, 1))
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2))
    image.SetPixelFormat(gdcm.PixelFormat(1, pixels.bits_allocated, pixels.bits_stored, pixels.high_bit, int(pixels.signed)))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    image.SetDataElement(element)
    # SWIG hands the buffer out as text with the bytes that are no UTF-8 as lone surrogates
    raw = image.GetBuffer().encode("utf-8", "surrogateescape")
    if len(raw) != pixels.frame_bytes:
        raise DecodingError("the decoder returned an image of another size")
    return np.frombuffer(raw, pixels.native_dtype(big_endian=False)).reshape(pixels.rows, pixels.columns)
