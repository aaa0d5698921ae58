"""Faults of the surroundings of a watched folder: a share that is gone, a disk that is full."""

from __future__ import annotations

import shutil
from pathlib import Path

import structlog

log = structlog.get_logger()


class Trouble:
    """Logs the beginning and the end of a fault of the surroundings, not its every occurrence."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._known: frozenset[str] = frozenset()
        self._seen: set[str] = set()

    def begin(self) -> None:
        """A poll begins."""
        self._seen = set()

    def enter(self, event: str, detail: str) -> None:
        """A fault was met."""
        if event not in self._known and event not in self._seen:
            log.error(event, folder=self._folder, detail=detail)
        self._seen.add(event)

    def end(self) -> None:
        """A poll has ended: what was not met again is over."""
        for event in self._known - self._seen:
            log.info("watch_trouble_over", folder=self._folder, trouble=event)
        self._known = frozenset(self._seen)


def free_bytes(folder: Path) -> int:
    """Free bytes of the file system of `folder`."""
    return shutil.disk_usage(folder).free
