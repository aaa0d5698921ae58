"""A process that decodes a share of a compressed series (see `conversion.parallel`); not meant to be started by people.

It is told on standard input, as JSON, the volume's `shape` and its `frames` (path, frame in the file, slice of the volume), and
writes HU into the shared memory whose descriptor is its only argument. Ends with `NOT_ANALYSED` and the detail on standard output
where an image cannot be decoded.
"""

from __future__ import annotations

import json
import mmap
import sys
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from conversion.frames import decode_into
from conversion.slices import slices_of_file
from corewatch.errors import NotAnalysed

NOT_ANALYSED: Final = 3


def main() -> int:
    """Do what standard input asks for; returns the exit code."""
    order = json.load(sys.stdin)
    out = np.frombuffer(mmap.mmap(int(sys.argv[1]), 0), np.int16).reshape(order["shape"])
    read = lru_cache(maxsize=1)(slices_of_file)  # frames of one file come together
    try:
        slices = [read(Path(path))[frame] for path, frame, _ in order["frames"]]
        decode_into(slices, [target for _, _, target in order["frames"]], out)
    except NotAnalysed as error:
        sys.stdout.write(error.detail)
        return NOT_ANALYSED
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
