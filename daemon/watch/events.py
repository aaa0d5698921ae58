"""File events as hints: they make a scan come earlier, nothing depends on them."""

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
"""Types of file systems whose changes by other machines raise no events here."""
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
"""Without the events of mere looking, which every scan of ours would cause."""
_MOUNTS = Path("/proc/self/mountinfo")


class _Hint(FileSystemEventHandler):
    def __init__(self, wake: threading.Event) -> None:
        self._wake = wake

    def on_any_event(self, _event: FileSystemEvent) -> None:
        self._wake.set()


class Hints:
    """Sets a folder's event when something changes in it, where the system can tell.

    Only the folders themselves are watched, not what is in them: one watch each, however much is dropped. Polling needs nothing
    here: the folders are scanned again and again in any case.
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
        """Begin to listen for events, or say why the folders are polled instead.

        Raises
        ------
        ConfigurationError
            Events cannot be had although the settings forbid polling.
        """
        if self._polling == "always":
            return
        folders = [f for f in self._wakes if self._polling == "never" or file_system(f) not in NETWORK_FILE_SYSTEMS]
        for folder in set(self._wakes) - set(folders):
            log.info("watch_polling", folder=str(folder), reason="a network file system does not tell what other machines change")
        if not folders:
            return
        observer: BaseObserver | None = None
        try:
            observer = self._make_observer()
            for folder in folders:
                observer.schedule(_Hint(self._wakes[folder]), str(folder), event_filter=_CHANGES)
            observer.start()
        except OSError as error:
            if observer is not None:
                observer.stop()  # also gives back what it took without having started
            remedy = INOTIFY_REMEDY if error.errno in (errno.ENOSPC, errno.EMFILE) else "set watch.polling: always"
            if self._polling == "never":
                raise ConfigurationError(f"watch.polling: never, but file events cannot be had ({error}): {remedy}") from error
            log.warning("watch_polling", reason=f"file events cannot be had: {error}", remedy=remedy)
            return
        self._observer = observer

    def stop(self) -> None:
        """Listen no more; returns when its threads have ended."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None


def file_system(folder: Path, mounts: Path = _MOUNTS) -> str:
    """Type of the file system a folder lies on (such as `ext4`), from a file like Linux's mountinfo; empty where unknown."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    best, kind = Path(), ""
    target = folder.resolve()
    for line in lines:
        fields, _, rest = line.partition(" - ")
        point = Path(fields.split()[4].encode().decode("unicode_escape"))
        # of mounts on the same point the last one counts
        if target.is_relative_to(point) and len(point.parts) >= len(best.parts):
            best, kind = point, rest.split()[0]
    return kind.removeprefix("fuse.")
