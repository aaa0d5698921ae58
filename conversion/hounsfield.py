"""Rescale of stored values to Hounsfield units, and plausibility of the result."""

from __future__ import annotations

import itertools
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from conversion.decoders import PixelFormat
from conversion.series_checks import LARGEST_PLANNED_STEP_MM
from conversion.slices import Rescale
from conversion.volume_grid import AIR_HU
from corewatch.errors import NotAnalysed
from corewatch.reasons import Reason

_INT16: Final = np.iinfo(np.int16)

AIR_BELOW_HU: Final = -700
"""HU below which air lies, with noise and the foam of a head rest."""

SOFT_TISSUE_HU: Final = (-20, 120)
"""HU range of brain, muscle and blood, slightly enhanced, with noise."""

LEAST_JUMP_HU: Final = 200.0
JUMP_FACTOR: Final = 4.0
"""Largest mean change of values (within `_COMPARED_HU`) from one slice to the next: this, or this multiple of the median change.
Real and synthetic heads in steps of 0.5 to 7.5 mm reached 0.52 of that; wider steps are not compared."""

_COMPARED_HU: Final = (-1000, 400)

_TISSUE_ABOVE_HU: Final = -300
_LEAST_COMMON: Final = 0.7
_LARGEST_DIFFERENCE_HU: Final = 100.0
"""A head goes on across a jump where this share of the smaller slice's tissue is tissue in the other too, and the median difference
there is below this. Holder, table, shoulders and a change of reconstruction circle alter what lies around it."""

MINIMUM_SHARE: Final = 0.01
"""Smallest share of air and of soft tissue in a head: heads have far more of both, raw or unscaled values none of one."""


def to_hounsfield(stored: NDArray[Any], pixels: PixelFormat, rescale: Rescale, out: NDArray[np.int16]) -> None:
    """Rescale one frame (PS3.3 C.11.1.1.2) into `out`; padding becomes air.

    Parameters
    ----------
    stored
        Integers as found in the file, (rows, columns); bits outside of Bits Stored may hold anything.
    out
        HU clipped to int16, (rows, columns). May be the same memory as `stored`.
    """
    padding = _padding_mask(stored, pixels)
    values = _significant_bits(stored, pixels)
    whole = rescale.intercept.is_integer() and abs(rescale.intercept) <= _INT16.max
    if rescale.slope == 1.0 and whole:
        intercept = int(rescale.intercept)
        low, high = int(values.min()) + intercept, int(values.max()) + intercept
        if low >= _INT16.min and high <= _INT16.max:
            # fits without an intermediate type: arithmetic modulo 2**16 cannot go wrong where the result fits
            np.add(values.view(np.int16) if values.itemsize == 2 else values, np.int16(intercept), out=out, casting="unsafe")
        else:
            np.clip(values.astype(np.int64) + intercept, _INT16.min, _INT16.max, out=out, casting="unsafe")
    else:
        scaled = values.astype(np.float32)
        scaled *= np.float32(rescale.slope)
        scaled += np.float32(rescale.intercept)
        np.rint(scaled, out=scaled)
        np.clip(scaled, _INT16.min, _INT16.max, out=out, casting="unsafe")
    if padding is not None:
        out[padding] = AIR_HU


def _significant_bits(stored: NDArray[Any], pixels: PixelFormat) -> NDArray[Any]:
    """The Bits Stored below High Bit, sign extended (PS3.5 8.1.1); bits above (old overlays) are dropped."""
    if pixels.bits_stored == pixels.bits_allocated:
        return stored
    above = stored.itemsize * 8 - 1 - pixels.high_bit
    below = pixels.high_bit + 1 - pixels.bits_stored
    significant: NDArray[Any]
    if pixels.signed or below:
        significant = np.right_shift(np.left_shift(stored, above), above + below)
    else:
        significant = np.bitwise_and(stored, (1 << pixels.bits_stored) - 1, dtype=stored.dtype)
    return significant


def _padding_mask(stored: NDArray[Any], pixels: PixelFormat) -> NDArray[np.bool_] | None:
    """Mask of padded pixels (PS3.3 C.7.5.1.1.2); None where there are none.

    Padding surrounds the field of view. Where no corner has the padding value, it is announced but not used, and a pixel with that
    value is tissue.
    """
    if pixels.padding is None:
        return None
    width = stored.itemsize * 8
    ends = [_signed(value & ((1 << width) - 1), width) if pixels.signed else value for value in pixels.padding]
    low, high = min(ends), max(ends)
    corners = stored[:: max(1, stored.shape[0] - 1), :: max(1, stored.shape[1] - 1)]
    if not ((corners >= low) & (corners <= high)).any():
        return None
    return np.asarray(stored == low) if low == high else np.asarray((stored >= low) & (stored <= high))


def _signed(word: int, width: int) -> int:
    return word - (1 << width) if word >> (width - 1) else word


def check_plausible(hu: NDArray[np.int16], along_mm: NDArray[np.float64]) -> None:
    """Raise `NotAnalysed(IMPLAUSIBLE_VALUES)` unless a volume holds air and soft tissue, and no slice is unlike its neighbours.

    Parameters
    ----------
    hu
        HU, shape (slices, rows, columns), in the order of positions.
    along_mm
        (slices,) position of each slice along the normal, mm.
    """
    sample = hu[:, :: max(1, hu.shape[1] // 32), :: max(1, hu.shape[2] // 32)]
    air = float((sample < AIR_BELOW_HU).mean())
    soft = float(((sample >= SOFT_TISSUE_HU[0]) & (sample <= SOFT_TISSUE_HU[1])).mean())
    if air < MINIMUM_SHARE or soft < MINIMUM_SHARE:
        detail = f"Air: {air:.1%} of the voxels, soft tissue: {soft:.1%}; values from {sample.min()} to {sample.max()} HU."
        raise NotAnalysed(Reason.IMPLAUSIBLE_VALUES, detail)
    jump = _first_jump(np.clip(sample, *_COMPARED_HU), np.diff(along_mm) <= LARGEST_PLANNED_STEP_MM)
    if jump is not None:
        pair = f"{jump + 1} and {jump + 2} of {len(hu)}, counted along the stack"
        detail = f"Slices {pair}, differ more than neighbours do: one of them is blank or damaged."
        raise NotAnalysed(Reason.IMPLAUSIBLE_VALUES, detail)


def _first_jump(sample: NDArray[np.int16], near: NDArray[np.bool_]) -> int | None:
    """Index of the first slice whose upper neighbour is unlike it: one of the two is blank, damaged or in another unit.

    A lasting change around a head that itself goes on is none: a lone damaged slice differs from both of its neighbours.
    """
    changes = np.array([np.abs(upper - lower.astype(np.int32)).mean() for lower, upper in itertools.pairwise(sample)])
    limit = max(LEAST_JUMP_HU, JUMP_FACTOR * float(np.median(changes))) if len(changes) else 0.0
    jumps = np.flatnonzero(near & (changes > limit)).tolist()
    lasting = [k for k in jumps if k - 1 not in jumps and k + 1 not in jumps and _goes_on(sample[k], sample[k + 1])]
    return next((k for k in jumps if k not in lasting), None)


def _goes_on(lower: NDArray[np.int16], upper: NDArray[np.int16]) -> bool:
    """Whether two slices show the same head, though what surrounds it differs."""
    tissue_below, tissue_above = lower > _TISSUE_ABOVE_HU, upper > _TISSUE_ABOVE_HU
    common = tissue_below & tissue_above
    smaller = min(int(np.count_nonzero(tissue_below)), int(np.count_nonzero(tissue_above)))
    if smaller < MINIMUM_SHARE * common.size or np.count_nonzero(common) < _LEAST_COMMON * smaller:
        return False
    return float(np.median(np.abs(upper[common] - lower[common].astype(np.int32)))) <= _LARGEST_DIFFERENCE_HU
