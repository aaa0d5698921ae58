"""Decoding of a series on several cores. Reading and decoding release Python's global lock, so threads suffice."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
from numpy.typing import NDArray

from conversion.frames import decode_into
from conversion.slices import Slice

SHARES_A_THREAD: Final = 8
"""Parts for each thread: a slower core takes fewer of them."""


def decode_slices(slices: Sequence[Slice], threads: int) -> NDArray[np.int16]:
    """Decode all slices of a series.

    Parameters
    ----------
    slices
        Checked, in the order wanted, of one image size.
    threads
        How many cores to use.

    Returns
    -------
    HU, int16, shape (slices, rows, columns), C order.

    Raises
    ------
    NotAnalysed
        `UNREADABLE`: pixel data is damaged or cut short.
    OSError
        A file could not be opened or read.
    """
    out = np.empty((len(slices), slices[0].pixels.rows, slices[0].pixels.columns), np.int16)
    with ThreadPoolExecutor(threads) as pool:
        waiting = [pool.submit(decode_into, [slices[k] for k in share], share, out) for share in _shares(slices, threads)]
        try:
            for one in waiting:
                one.result()
        finally:
            for one in waiting:  # the first damaged image ends the series: the rest need not be decoded
                one.cancel()
    return out


def _shares(slices: Sequence[Slice], threads: int) -> Iterator[list[int]]:
    """Indices of `slices` in parts. A file of many frames makes one part for each thread only, as each of them reads it whole."""
    by_file = sorted(range(len(slices)), key=lambda k: (slices[k].path, slices[k].frame))
    single = [k for k in by_file if slices[k].frames_in_file == 1]
    size = -(-len(single) // (threads * SHARES_A_THREAD)) if single else 1
    yield from (single[at : at + size] for at in range(0, len(single), size))
    several = (k for k in by_file if slices[k].frames_in_file > 1)
    for _, frames in itertools.groupby(several, key=lambda k: slices[k].path):
        together = list(frames)
        yield from (part.tolist() for part in np.array_split(together, min(threads, len(together))))
