"""File system events (inotify): they only make the next scan earlier, nothing depends on them."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import structlog
from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from corewatch.errors import ConfigurationError

log = structlog.get_logger()

NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "virtiofs", "sshfs"}
)
"""File system types that raise no events for changes by other machines."""
INOTIFY_REMEDY = (
    "raise fs.inotify.max_user_watches and fs.inotify.max_user_instances (sysctl -w fs.inotify.max_user_instances=1024, and in "
    "/etc/sysctl.d to keep it), or set watch.polling: always"
)
_CHANGES: list[type[FileSystemEvent]] = [
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
]
"""Without open and read events, which our own scans would cause."""
_MOUNTS = Path("/proc/self/mountinfo")


class _WakeOnEvent(FileSystemEventHandler):
    def __init__(self, wake: threading.Event) -> None:
        self._wake = wake

    def on_any_event(self, _event: FileSystemEvent) -> None:
        self._wake.set()


class FolderEvents:
    """Wakes a folder's thread when something changes in the folder, where the file system raises events.

    Subfolders are not watched: one inotify watch per folder, however much is dropped. Polling needs nothing here, since the folders
    are scanned periodically in any case.
    """

    def __init__(
        self,
        wakes: Mapping[Path, threading.Event],
        polling: Literal["auto", "always", "never"],
        make_observer: Callable[[], BaseObserver] = Observer,
    ) -> None:
        self._wakes = wakes
        self._polling = polling
        self._make_observer = make_observer
        self._observer: BaseObserver | None = None

    def start(self) -> None:
        """Start listening for events, or log why the folders are polled instead.

        Raises
        ------
        ConfigurationError
            Events are not available although the settings forbid polling.
        """
        if self._polling == "always":
            return
        folders = [f for f in self._wakes if self._polling == "never" or file_system(f) not in NETWORK_FILE_SYSTEMS]
        for folder in set(self._wakes) - set(folders):
            log.info("watch_polling", folder=str(folder), reason="network file systems raise no events for remote changes")
        if not folders:
            return
        observer: BaseObserver | None = None
        try:
            observer = self._make_observer()
            for folder in folders:
                observer.schedule(_WakeOnEvent(self._wakes[folder]), str(folder), event_filter=_CHANGES)
            observer.start()
        except OSError as error:
            if observer is not None:
                observer.stop()  # also frees the watches of an observer that has not started
            remedy = INOTIFY_REMEDY if error.errno in (errno.ENOSPC, errno.EMFILE) else "set watch.polling: always"
            if self._polling == "never":
                raise ConfigurationError(f"watch.polling: never, but file events are not available ({error})", remedy) from error
            log.warning("watch_polling", reason=f"file events are not available: {error}", remedy=remedy)
            return
        self._observer = observer

    def stop(self) -> None:
        """Stop listening; returns when the observer's threads have ended."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None


def file_system(folder: Path, mounts: Path = _MOUNTS) -> str:
    """File system type of a folder (such as `ext4`), read from Linux's mountinfo; empty where unknown."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    best, kind = Path(), ""
    target = folder.resolve()
    for line in lines:
        fields, _, rest = line.partition(" - ")
        point = Path(fields.split()[4].encode().decode("unicode_escape"))
        # of several mounts on the same point the last one is visible
        if target.is_relative_to(point) and len(point.parts) >= len(best.parts):
            best, kind = point, rest.split()[0]
    return kind.removeprefix("fuse.")
