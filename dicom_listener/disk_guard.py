"""The disk under the spool: is there room for one more image, and one log line per shortage instead of one per image."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from corewatch.units import GIB
from foundation.disk import FreeBytes, free_bytes

log = structlog.get_logger()

SAY_AGAIN_S = 600.0
"""A shortage that comes back sooner is not logged again: around the limit one image finds room and the next does not."""


class DiskGuard:
    """Says no before the disk is full, so that programs that share it keep working. Safe for use by several threads."""

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
        self._trouble = self._said = False
        self._said_at = float("-inf")

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
        """An image could not be written."""
        self._enter("spool_not_writable", error=error.strerror or type(error).__name__, errno=error.errno)

    def stored(self) -> None:
        """An image was written: a shortage, if there was one, is over."""
        if self._trouble:
            with self._lock:
                over, self._trouble, self._said = self._said, False, False
            if over:
                log.info("disk_usable_again")

    def _enter(self, event: str, **details: object) -> None:
        with self._lock:
            now, self._trouble = self._clock(), True
            say = not self._said and now - self._said_at >= SAY_AGAIN_S
            if say:
                self._said, self._said_at = True, now
        if say:
            log.error(event, answer="0xA700 to every C-STORE until there is room again", **details)
