"""Free disk under the spool: refuses instances before the disk is full, and logs a shortage once."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import structlog

from corewatch.units import GIB
from foundation.disk import FreeBytes, free_bytes
from foundation.outages import OutageTracker

log = structlog.get_logger()

LOG_AGAIN_AFTER_S = 600.0
"""A shortage that returns sooner is not logged again: near the limit one instance fits and the next does not."""


class DiskGuard:
    """Keeps a reserve of the disk free for the programs that share it. Thread-safe."""

    def __init__(
        self,
        folder: Path,
        reserve_gib: float,
        free: FreeBytes = free_bytes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._reserve = int(reserve_gib * GIB)
        self._free = free
        self._clock = clock
        self._outage = OutageTracker(LOG_AGAIN_AFTER_S)

    def admits(self, size: int) -> bool:
        """Whether `size` more bytes leave the reserve untouched.

        Raises
        ------
        OSError
            The folder is gone or its file system does not answer.
        """
        free = self._free(self._folder)
        if free - size >= self._reserve:
            return True
        self._enter("disk_nearly_full", free_gib=round(free / GIB, 2), reserve_gib=round(self._reserve / GIB, 2))
        return False

    def failed(self, error: OSError) -> None:
        """An instance could not be written."""
        self._enter("spool_not_writable", error=error.strerror or type(error).__name__, errno=error.errno)

    def stored(self) -> None:
        """An instance was written: a shortage, if there was one, is over."""
        if self._outage.recovered():
            log.info("disk_usable_again")

    def _enter(self, event: str, **details: object) -> None:
        if self._outage.failed(now=self._clock()):
            log.error(event, answer="0xA700 to every C-STORE until there is room again", **details)
