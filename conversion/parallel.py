"""Decoding a whole series on several cores.

Reading uncompressed pixels leaves Python's global lock free, so threads are enough. None of the decoders lets go of it (measured:
two threads are as fast as one), so compressed series of some size go to helper processes. These are plain subprocesses, since a
Celery worker's processes may not have multiprocessing children; they write into memory that is shared with this one.
"""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from conversion import helper
from conversion.decoders import NATIVE
from conversion.frames import decode_into
from conversion.slices import Slice
from corewatch.errors import NotAnalysed
from corewatch.reasons import Reason

WORTH_PROCESSES: Final = 48
"""Compressed frames from which helper processes, which take some tenths of a second to start, are worth it."""


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
    shape = (len(slices), slices[0].pixels.rows, slices[0].pixels.columns)
    compressed = sum(one.instance.transfer_syntax_uid not in NATIVE for one in slices)
    # frames of one file together, so that it is opened once per helper
    targets = sorted(range(len(slices)), key=lambda k: (slices[k].path, slices[k].frame))
    shares = [share.tolist() for share in np.array_split(targets, min(threads, len(slices)))]
    if threads > 1 and compressed >= WORTH_PROCESSES:
        return _with_processes(slices, shares, shape)
    out = np.empty(shape, np.int16)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda share: decode_into([slices[k] for k in share], share, out), shares))
    return out


def _with_processes(slices: Sequence[Slice], shares: list[list[int]], shape: tuple[int, int, int]) -> NDArray[np.int16]:
    handle = _shared_memory(2 * int(np.prod(shape)))
    helpers: list[_Helper] = []
    try:
        for share in shares:
            frames = [(str(slices[k].path), slices[k].frame, k) for k in share]
            helpers.append(_Helper(handle, {"shape": shape, "frames": frames}))
        for one in helpers:
            one.finish()
        return np.frombuffer(mmap.mmap(handle, 0), np.int16).reshape(shape)
    finally:
        for one in helpers:
            one.close()
        os.close(handle)


def _shared_memory(size: int) -> int:
    """A descriptor of memory that helpers can write to: nameless, gone with the last one who holds it."""
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("corewatch-volume")
    else:
        with tempfile.TemporaryFile() as file:
            handle = os.dup(file.fileno())
    os.ftruncate(handle, size)
    return handle


class _Helper:
    """One process of `conversion.helper`. What it is told and what it answers goes through files, so neither side can block."""

    def __init__(self, handle: int, order: dict[str, Any]) -> None:
        self._answer = tempfile.TemporaryFile()  # noqa: SIM115  closed by close(), it lives as long as the process
        with tempfile.TemporaryFile() as told:
            told.write(json.dumps(order).encode())
            told.seek(0)
            self._process = subprocess.Popen(
                [sys.executable, "-m", helper.__name__, str(handle)],
                stdin=told,
                stdout=self._answer,
                stderr=subprocess.DEVNULL,
                pass_fds=[handle],
                env=os.environ | {"PYTHONPATH": _import_path()},
            )

    def finish(self) -> None:
        """Wait for the end; raise what went wrong."""
        code = self._process.wait()
        if code == 0:
            return
        self._answer.seek(0)
        detail = self._answer.read().decode(errors="replace").strip()
        if code == helper.NOT_ANALYSED and detail:
            raise NotAnalysed(Reason.UNREADABLE, detail)
        raise OSError(f"A decoding process ended with code {code}.")

    def close(self) -> None:
        """Leave nothing behind, whatever happened."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._answer.close()


def _import_path() -> str:
    """Where the helper finds this package, however this process found it."""
    own = str(Path(__file__).resolve().parents[1])
    inherited = os.environ.get("PYTHONPATH")
    return os.pathsep.join([own, inherited]) if inherited else own
