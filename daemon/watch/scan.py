"""Directory scan of a watched folder: its drops, and the limits on what is read of one.

A scan opens no file and follows no link.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from pathlib import Path

from config.intake import WatchSettings
from conversion.media import ArchiveLimits
from corewatch.units import GIB, MIB

PROCESSED = "processed"
REJECTED = "rejected"
PARTIAL_SUFFIXES = (".part", ".partial", ".tmp", ".temp", ".filepart", ".crdownload", ".download", "~")
"""Suffixes that copying programs use until a file is complete (WinSCP, rsync, browsers, editors)."""
MAX_LISTED = 1_000_000
"""Entries read of one folder: a listing must not use up the memory."""


@dataclass(frozen=True, slots=True)
class DropLimits:
    """Limits of one drop: what people and programs drop is not trusted.

    Attributes
    ----------
    instance_bytes
        Of one DICOM file, which is read into memory.
    aligned_bytes
        Of one `.nii.gz`, which is read into memory too.
    files
        Files of a drop, of any kind.
    depth
        Nested folders.
    archive
        Of a zip, after unpacking.
    """

    instance_bytes: int = 2048 * MIB
    aligned_bytes: int = 256 * MIB
    files: int = 100_000
    depth: int = 32
    archive: ArchiveLimits = field(default_factory=ArchiveLimits)

    @classmethod
    def from_settings(cls, watch: WatchSettings) -> DropLimits:
        """The limits that the settings give."""
        return cls(
            instance_bytes=int(watch.max_instance_mib * MIB),
            aligned_bytes=int(watch.max_aligned_mib * MIB),
            files=watch.max_files,
            depth=watch.max_depth,
            archive=ArchiveLimits(
                files=watch.max_files,
                total_bytes=int(watch.max_zip_gib * GIB),
                ratio=watch.max_zip_ratio,
            ),
        )


DEFAULT_LIMITS = DropLimits()
"""The limits of the settings' defaults."""


class EntryKind(StrEnum):
    """Type of a directory entry."""

    FILE = "file"
    LINK = "symbolic link"
    SPECIAL = "pipe, socket or device"
    UNREADABLE = "unreadable folder"
    TOO_DEEP = "folder within too many folders"


@dataclass(frozen=True, slots=True)
class DropEntry:
    """One directory entry of a drop.

    Attributes
    ----------
    name
        Path within the drop, parts joined with `/`; of a loose file its name.
    mtime_ns
        Modification time, nanoseconds since 1970.
    """

    path: Path
    name: str
    kind: EntryKind
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Drop:
    """What somebody put into a watched folder: a file, or a folder with everything in it."""

    path: Path
    is_folder: bool
    entries: tuple[DropEntry, ...]
    unfinished: bool
    """One of its files is empty, or its name says that it is still being written."""
    too_many: bool = False
    """It holds more files than are allowed; `entries` are the first ones found."""

    @property
    def name(self) -> str:
        """Its name in the watched folder. May contain a patient's name: never logged."""
        return self.path.name

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(e.size for e in self.entries)

    @property
    def signature(self) -> tuple[tuple[str, str, int, int], ...]:
        """Changes whenever a file of the drop changes."""
        return tuple((e.name, str(e.kind), e.size, e.mtime_ns) for e in self.entries)


def is_hidden(name: str) -> bool:
    """Whether a program made this file for itself, not a person for corewatch."""
    return name.startswith(".") or name.lower() in {"thumbs.db", "desktop.ini", "__macosx"}


def is_partial(name: str) -> bool:
    """Whether the name says that the file is still being written."""
    return name.lower().endswith(PARTIAL_SUFFIXES)


def scan(folder: Path, limits: DropLimits = DEFAULT_LIMITS) -> list[Drop]:
    """All drops in a watched folder, sorted by name.

    Hidden and partial names are no drops. A folder without files is none either: it may be filled soon.

    Raises
    ------
    OSError
        The folder was removed or cannot be read.
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


def _walk(top: os.DirEntry[str], depth: int) -> Iterator[DropEntry]:
    """All files below a folder. Iterative: the depth is chosen by people that are not trusted."""
    folders = [(top.path, "", depth)]
    while folders:
        path, prefix, left = folders.pop()
        try:
            with os.scandir(path) as listing:
                items = list(islice(listing, MAX_LISTED))
        except FileNotFoundError:
            continue  # moved away since it was listed
        except OSError:
            yield DropEntry(Path(path), prefix or top.name, EntryKind.UNREADABLE, 0, 0)
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
                yield DropEntry(Path(item.path), name, EntryKind.TOO_DEEP, 0, 0)


def _entry(item: os.DirEntry[str], name: str) -> Iterator[DropEntry]:
    try:
        status = item.stat(follow_symlinks=False)
    except FileNotFoundError:
        return
    yield DropEntry(Path(item.path), name, _kind(status.st_mode), status.st_size, status.st_mtime_ns)


def _kind(mode: int) -> EntryKind:
    if stat.S_ISREG(mode):
        return EntryKind.FILE
    return EntryKind.LINK if stat.S_ISLNK(mode) else EntryKind.SPECIAL


def _unfinished(entry: DropEntry) -> bool:
    return entry.kind is EntryKind.FILE and (entry.size == 0 or is_partial(entry.name))
