"""Linear resampling through a matrix, in the order in which the values lie in memory.

A stack of 200 MiB does not fit into any cache: walking through it against its order takes several times as long.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from corewatch.geometry import Matrix

PARTS: Final = 16
"""Pieces that work is cut into, whatever the number of threads: rounding, and so the result, does not depend on it."""


def memory_order(values: NDArray[Any]) -> list[int]:
    """Axes from the slowest to the fastest in memory."""
    return [int(axis) for axis in np.argsort([-abs(stride) for stride in values.strides], kind="stable")]


def sample(
    source: NDArray[Any], to_source: Matrix, shape: tuple[int, ...], *, outside: float, threads: int = 1
) -> NDArray[np.float32]:
    """Resample, linearly, on another grid.

    Parameters
    ----------
    source
        Values, three axes in any memory order.
    to_source
        Index in the result -> index in `source`, 4 x 4.
    shape
        Shape of the result.
    outside
        Value beyond the outermost voxel centres of `source`.

    Returns
    -------
    float32 of `shape`; its memory order follows the source's.
    """
    order = memory_order(source)
    lead = [int(np.argmax(np.abs(to_source[axis, :3]))) for axis in order]
    if sorted(lead) != [0, 1, 2]:
        lead = [0, 1, 2]
    ordered = source.transpose(order)
    matrix = to_source[:3, :3][np.ix_(order, lead)]
    offset = to_source[:3, 3][order]
    result = np.empty([shape[axis] for axis in lead], np.float32)

    def fill(rows: slice) -> None:
        part = result[rows]
        affine_transform(
            ordered,
            matrix,
            offset + matrix[:, 0] * rows.start,
            output_shape=part.shape,
            output=part,
            order=1,
            mode="constant",
            cval=outside,
        )

    bounds = np.unique(np.linspace(0, result.shape[0], PARTS + 1).astype(int))
    pieces = [slice(int(a), int(b)) for a, b in pairwise(bounds)]
    if threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(fill, pieces))
    else:
        for piece in pieces:
            fill(piece)
    return result.transpose([lead.index(axis) for axis in range(3)])
