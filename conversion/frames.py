"""Pixel data of slices to Hounsfield units, in one thread, file by file."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from io import BufferedIOBase
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from conversion.decoders import BIG_ENDIAN, NATIVE, DecodingError, decode_encapsulated, decoders, name_of
from conversion.elements import open_dicom
from conversion.hounsfield import to_hounsfield
from conversion.problems import Problem
from conversion.slices import Slice
from corewatch.errors import NotAnalysed
from corewatch.reasons import Reason

LARGEST_IMAGE: Final = 1 << 24
"""Most pixels of an image: 4096 x 4096, four times those of the finest scanners. OpenJPEG needs 6 to 8 bytes for each."""

LARGEST_VOLUME: Final = 1 << 30
"""Most voxels of a volume, 2 bytes each; a head in voxels of 0.3 mm has less than half of them. A damaged header must not take
all memory."""

_OTHER_UNITS: Final = re.compile(
    r"^(OD|MGML|Z_?EFF|EDW?|HU_MOD|PCT|SUV\w*|CNTS|BQML|KEV)$|MG|ML|%|PERCENT|DENS|COUNT|GY\b|SEC|KEV", re.IGNORECASE
)
"""Rescale Types (0028,1054) that are other units than HU (PS3.3 C.11.1.1.2 and free text). Every other word is taken for HU, which
`check_plausible` then proves: the word is free text, such as "HOUNSFIELD" or "unspecified"."""


def check_pixels(slices: Sequence[Slice]) -> list[Problem]:
    """Problems that prevent decoding the pixel data of a series, as far as headers show."""
    count = len(slices)
    unsupported = sorted({one.instance.transfer_syntax_uid for one in slices} - decoders().keys())
    problems = [Problem(Reason.UNSUPPORTED_ENCODING, f"Transfer syntax: {name_of(syntax)}.") for syntax in unsupported]
    without = sum(one.element is None for one in slices)
    if without:
        problems.append(Problem(Reason.UNREADABLE, f"{without} of {count} images hold no pixel data."))
    colour = sum(one.pixels.samples != 1 or not one.pixels.photometric.startswith("MONOCHROME") for one in slices)
    if colour:
        problems.append(Problem(Reason.NOT_A_VOLUME, f"{colour} of {count} images are in colour."))
    odd = sum(not _plausible_bits(one) for one in slices)
    if odd:
        problems.append(Problem(Reason.UNREADABLE, f"{odd} of {count} images have an impossible bit depth."))
    elif not without:
        problems += _lengths_fit(slices)
    problems += _sizes_are_bounded(slices)
    problems += _rescale_is_known(slices)
    units = sorted({kind for one in slices if _OTHER_UNITS.search(kind := one.rescale.kind.strip())})
    if units:
        problems.append(Problem(Reason.IMPLAUSIBLE_VALUES, f"The values are in {', '.join(units)}."))
    return problems


def _sizes_are_bounded(slices: Sequence[Slice]) -> list[Problem]:
    """Whether the images fit into memory, checked before any is allocated."""
    sizes = [one.pixels.rows * one.pixels.columns for one in slices]
    if max(sizes, default=0) > LARGEST_IMAGE:
        pixels = slices[sizes.index(max(sizes))].pixels
        detail = f"An image announces {pixels.columns} x {pixels.rows} pixels; {LARGEST_IMAGE} are allowed in one."
        return [Problem(Reason.UNREADABLE, detail)]
    if sum(sizes) > LARGEST_VOLUME:
        detail = f"It has {len(sizes)} images with {sum(sizes)} pixels; {LARGEST_VOLUME} are allowed in all."
        return [Problem(Reason.TOO_LARGE, detail)]
    return []


def numbers_readable(slices: Sequence[Slice]) -> list[Problem]:
    """Whether each position, orientation, spacing and rescale that a header has is a decimal string (PS3.5 6.2, DS)."""
    problems = []
    for comma, wrong in ((True, "is written with a decimal comma, which DICOM does not allow"), (False, "is no decimal number")):
        counted = Counter(name for one in slices for name, has_comma in one.unreadable if has_comma is comma)
        for name, count in sorted(counted.items()):
            reason = Reason.IMPLAUSIBLE_VALUES if name.startswith("Rescale") else Reason.IRREGULAR_GEOMETRY
            problems.append(Problem(reason, f"{name} of {count} of {len(slices)} images {wrong}."))
    return problems


def _rescale_is_known(slices: Sequence[Slice]) -> list[Problem]:
    """Whether each image has a rescale to HU. A value that cannot be read, or that only some images lack, is a damaged header.
    Where all lack it, the stored values may be HU, which `check_plausible` decides."""
    count = len(slices)
    problems = []
    damaged = sum(not one.rescale.readable or one.rescale.slope == 0 for one in slices)
    if damaged:
        detail = f"Rescale slope or intercept of {damaged} of {count} images is no number that can be used."
        problems.append(Problem(Reason.IMPLAUSIBLE_VALUES, detail))
    lacking = sum(not all(one.rescale.given) for one in slices) if len({one.rescale.given for one in slices}) > 1 else 0
    if lacking and not damaged:
        detail = f"{lacking} of {count} images have no rescale slope or intercept, and the others have."
        problems.append(Problem(Reason.IMPLAUSIBLE_VALUES, detail))
    return problems


def _plausible_bits(one: Slice) -> bool:
    pixels = one.pixels
    return pixels.bits_allocated in (8, 16, 32) and 0 < pixels.bits_stored <= pixels.high_bit + 1 <= pixels.bits_allocated


def _lengths_fit(slices: Sequence[Slice]) -> list[Problem]:
    """Whether pixel data is encapsulated where the transfer syntax requires it (PS3.5 A.4), and long enough where it is not."""
    problems = []
    wrong = {
        one.instance.transfer_syntax_uid
        for one in slices
        if one.instance.transfer_syntax_uid in decoders()
        and one.element is not None
        and (one.element.length is None) == (one.instance.transfer_syntax_uid in NATIVE)
    }
    for syntax in sorted(wrong):
        kind = "is compressed" if syntax in NATIVE else "is not compressed"
        problems.append(Problem(Reason.UNREADABLE, f"The transfer syntax is {name_of(syntax)}, but the pixel data {kind}."))
    short = sum(
        one.element is not None
        and one.element.length is not None
        and not wrong
        and one.element.length < one.pixels.frame_bytes * one.frames_in_file
        for one in slices
    )
    if short:
        problems.append(Problem(Reason.UNREADABLE, f"The pixel data of {short} of {len(slices)} images is cut short."))
    return problems


def decode_into(slices: Sequence[Slice], targets: Sequence[int], out: NDArray[np.int16]) -> None:
    """Decode each slice into `out[target]`.

    Parameters
    ----------
    slices
        Checked by `check_pixels`. Frames of one file should be adjacent, so that the file is opened once.
    out
        HU, int16, shape (n, rows, columns), C order.

    Raises
    ------
    NotAnalysed
        `UNREADABLE`: pixel data is damaged or cut short.
    OSError
        A file could not be opened or read.
    """
    pairs = zip(slices, targets, strict=True)
    for path, group in itertools.groupby(pairs, key=lambda pair: pair[0].path):
        frames = sorted(group, key=lambda pair: pair[0].frame)
        syntax = frames[0][0].instance.transfer_syntax_uid
        if syntax in NATIVE:
            _read_native(path, frames, out)
        else:
            _decode_compressed(path, frames, out)


_Frames = Sequence[tuple[Slice, int]]


def _read_native(path: Path, frames: _Frames, out: NDArray[np.int16]) -> None:
    """Read pixels directly into the volume and rescale them there: the path of nearly all series."""
    with open_dicom(path, None) as (file, _):  # reads only what the header announces
        for one, target in frames:
            assert one.element is not None
            dtype = one.pixels.native_dtype(one.instance.transfer_syntax_uid == BIG_ENDIAN)
            here = out[target]
            stored = here.view(dtype) if dtype.itemsize == 2 else np.empty(here.shape, dtype)
            file.seek(one.element.offset + one.frame * one.pixels.frame_bytes)
            if not _fill(file, stored.data.cast("B")):
                raise NotAnalysed(Reason.UNREADABLE, "A file is cut short: its pixel data is incomplete.")
            if not dtype.isnative:
                stored = stored.astype(dtype.newbyteorder("="))
            to_hounsfield(stored, one.pixels, one.rescale, here)


def _fill(file: BufferedIOBase, buffer: memoryview) -> bool:
    """Read until `buffer` is full; False where the file ends before."""
    done = 0
    while done < len(buffer):
        count = file.readinto(buffer[done:])
        if not count:
            return False
        done += count
    return True


def _decode_compressed(path: Path, frames: _Frames, out: NDArray[np.int16]) -> None:
    first = frames[0][0]
    assert first.element is not None
    with path.open("rb") as file:
        file.seek(first.element.offset)
        value = file.read()
    indices = [one.frame for one, _ in frames]
    syntax = first.instance.transfer_syntax_uid
    try:
        decoded = decode_encapsulated(value, indices, first.frames_in_file, first.pixels, syntax)
        for (one, target), stored in zip(frames, decoded, strict=True):
            to_hounsfield(stored, one.pixels, one.rescale, out[target])
    except (DecodingError, ValueError) as error:
        raise NotAnalysed(Reason.UNREADABLE, f"An image in {name_of(syntax)} could not be decoded.") from error
