"""Looks at the free disk of the data folder; the operators are told once per shortage: refused images have no case to tell of."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from config.settings import Settings
from corewatch.shortage import Shortage

log = structlog.get_logger()

LOOK_EVERY_S: Final = 10.0
TELL_AGAIN_S: Final = 60.0
"""After the mail server took no mail."""
GIB: Final = 1024**3

Tell = Callable[[str], bool]
"""Tells the operators what is wrong; whether anybody was reached."""


def free_bytes(folder: Path) -> int:
    """Bytes that are free for us on the file system of `folder`."""
    return shutil.disk_usage(folder).free


class DiskWatch:
    """One look after the other. What it knows is kept in memory: a restart during a shortage tells of it once more."""

    def __init__(
        self,
        settings: Settings,
        tell: Tell,
        free: Callable[[Path], int] = free_bytes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = settings.received_dir
        self._reserve = int(settings.listener.reserve_gib * GIB)
        self._tell, self._free, self._clock = tell, free, clock
        self._shortage = Shortage()
        self._not_before = float("-inf")

    def step(self, _now: datetime) -> bool:
        """Look once; whether there is a shortage.

        Raises
        ------
        OSError
            The folder is gone or its file system does not answer.
        """
        free, now, before = self._free(self._folder), self._clock(), self._shortage
        self._shortage = before.observe(free, self._reserve, now)
        details = {"free_gib": round(free / GIB, 2), "reserve_gib": round(self._reserve / GIB, 2)}
        if self._shortage.short and not before.short:
            log.error("the disk of the data folder is nearly full", **details)
        elif before.short and not self._shortage.short:
            log.info("the disk of the data folder has room again", **details)
        if self._shortage.must_tell and now >= self._not_before:
            self._not_before = now + TELL_AGAIN_S
            if self._tell(f"{free / GIB:.2f} GiB are free; {self._reserve / GIB:.2f} GiB are kept free (listener.reserve_gib)."):
                self._shortage = self._shortage.after_telling()
        return self._shortage.short
