"""What lies in a watched folder. Only looks: nothing is opened, no link is followed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path

from daemon.watch.limits import LIMITS, DropLimits

PROCESSED = "processed"
REJECTED = "rejected"
PARTIAL_SUFFIXES = (".part", ".partial", ".tmp", ".temp", ".filepart", ".crdownload", ".download", "~")
"""Ends of the names that copying programs use until a file is whole (WinSCP, rsync, browsers, editors)."""
MOST_LISTED = 1_000_000
"""Entries of one folder that are looked at: a listing must not take all memory."""


class EntryKind(StrEnum):
    """Type of a directory entry."""

    FILE = "file"
    LINK = "symbolic link"
    SPECIAL = "pipe, socket or device"
    UNREADABLE = "unreadable folder"
    TOO_DEEP = "folder within too many folders"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a drop.

    Attributes
    ----------
    name
        Path within the drop, parts joined with `/`; for a loose file its name.
    mtime_ns
        Time of change of content, nanoseconds since 1970.
    """

    path: Path
    name: str
    kind: EntryKind
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Drop:
    """A thing at the top of a watched folder: a file, or a folder with all that is in it."""

    path: Path
    is_folder: bool
    entries: tuple[Entry, ...]
    unfinished: bool
    """A file in it is still being written, going by its name, or is empty."""
    too_many: bool = False
    """It holds more files than are allowed; `entries` are the first ones that were found."""

    @property
    def name(self) -> str:
        """Its name in the watched folder. May hold a patient's name: never logged."""
        return self.path.name

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(e.size for e in self.entries)

    @property
    def signature(self) -> tuple[tuple[str, str, int, int], ...]:
        """Changes whenever a file of the drop does."""
        return tuple((e.name, str(e.kind), e.size, e.mtime_ns) for e in self.entries)


def is_hidden(name: str) -> bool:
    """Whether programs made this file for themselves, not a person for us."""
    return name.startswith(".") or name.lower() in {"thumbs.db", "desktop.ini", "__macosx"}


def is_partial(name: str) -> bool:
    """Whether the name says that the file is still being written."""
    return name.lower().endswith(PARTIAL_SUFFIXES)


def scan(folder: Path, limits: DropLimits = LIMITS) -> list[Drop]:
    """All drops in a watched folder, sorted by name.

    Hidden and partial names are not drops, nor is a folder without files: it may be about to be filled.

    Raises
    ------
    OSError
        The folder is gone or cannot be read.
    """
    drops = []
    with os.scandir(folder) as listing:
        for item in listing:
            if is_hidden(item.name) or is_partial(item.name) or item.name in (PROCESSED, REJECTED):
                continue
            is_folder = item.is_dir(follow_symlinks=False)
            found = list(islice(_walk(item, limits.depth) if is_folder else _entry(item, item.name), limits.files + 1))
            too_many = len(found) > limits.files
            entries = tuple(sorted(found[: limits.files], key=lambda e: e.name))
            if entries:
                drops.append(Drop(Path(item.path), is_folder, entries, any(_unfinished(e) for e in entries), too_many))
    return sorted(drops, key=lambda d: d.name)


def _walk(top: os.DirEntry[str], depth: int) -> Iterator[Entry]:
    """All files below a folder. A list of folders, not recursion: whoever makes folders decides how deep they go."""
    folders = [(top.path, "", depth)]
    while folders:
        path, prefix, left = folders.pop()
        try:
            with os.scandir(path) as listing:
                items = list(islice(listing, MOST_LISTED))
        except FileNotFoundError:
            continue  # moved away since it was listed
        except OSError:
            yield Entry(Path(path), prefix or top.name, EntryKind.UNREADABLE, 0, 0)
            continue
        for item in items:
            name = f"{prefix}/{item.name}" if prefix else item.name
            if is_hidden(item.name):
                continue
            if not item.is_dir(follow_symlinks=False):
                yield from _entry(item, name)
            elif left > 1:
                folders.append((item.path, name, left - 1))
            else:
                yield Entry(Path(item.path), name, EntryKind.TOO_DEEP, 0, 0)


def _entry(item: os.DirEntry[str], name: str) -> Iterator[Entry]:
    try:
        status = item.stat(follow_symlinks=False)
    except FileNotFoundError:
        return
    yield Entry(Path(item.path), name, _kind(status.st_mode), status.st_size, status.st_mtime_ns)


def _kind(mode: int) -> EntryKind:
    if stat.S_ISREG(mode):
        return EntryKind.FILE
    return EntryKind.LINK if stat.S_ISLNK(mode) else EntryKind.SPECIAL


def _unfinished(entry: Entry) -> bool:
    return entry.kind is EntryKind.FILE and (entry.size == 0 or is_partial(entry.name))
