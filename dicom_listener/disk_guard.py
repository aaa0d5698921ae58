"""Free disk under the spool: refuses instances before the disk is full, and logs a shortage once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from corewatch.units import GIB
from foundation.disk import FreeBytes, free_bytes

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
        self._lock = threading.Lock()
        self._short = self._logged = False
        self._logged_at = float("-inf")

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
        if self._short:
            with self._lock:
                over, self._short, self._logged = self._logged, False, False
            if over:
                log.info("disk_usable_again")

    def _enter(self, event: str, **details: object) -> None:
        with self._lock:
            now, self._short = self._clock(), True
            due = not self._logged and now - self._logged_at >= LOG_AGAIN_AFTER_S
            if due:
                self._logged, self._logged_at = True, now
        if due:
            log.error(event, answer="0xA700 to every C-STORE until there is room again", **details)
