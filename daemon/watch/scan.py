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
from foundation.beneath import folder_beneath

PROCESSED = "processed"
REJECTED = "rejected"
PARTIAL_SUFFIXES = (".part", ".partial", ".tmp", ".temp", ".filepart", ".crdownload", ".download", "~")
"""Suffixes that copying programs use until a file is complete (WinSCP, rsync, browsers, editors)."""
_MADE_BY_PROGRAMS = frozenset(
    {
        "thumbs.db",
        "thumbs.db:encryptable",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "desktop.ini",
        "__macosx",
        "icon\r",
        "$recycle.bin",
        "system volume information",
        "lost+found",
    }
)
"""Files and folders of Windows, macOS and Linux, lower case."""
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
    root
        The watched folder.
    name
        Path within the drop, parts joined with `/`; of a loose file its name.
    mtime_ns
        Modification time, nanoseconds since 1970.
    """

    root: Path
    path: Path
    name: str
    kind: EntryKind
    size: int
    mtime_ns: int

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the folders below the watched one, and of the file."""
        return self.path.relative_to(self.root).parts


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
    return name.startswith((".", "~$", "@eaDir", "#recycle")) or name.lower() in _MADE_BY_PROGRAMS


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
    with folder_beneath(folder) as descriptor, os.scandir(descriptor) as listing:
        for item in listing:
            if is_hidden(item.name) or is_partial(item.name) or item.name in (PROCESSED, REJECTED):
                continue
            is_folder = item.is_dir(follow_symlinks=False)
            walk = _walk(folder, item.name, limits.depth) if is_folder else _loose(folder, item)
            found = list(islice(walk, limits.files + 1))
            too_many = len(found) > limits.files
            entries = tuple(sorted(found[: limits.files], key=lambda e: e.name))
            if entries:
                drops.append(Drop(folder / item.name, is_folder, entries, any(_unfinished(e) for e in entries), too_many))
    return sorted(drops, key=lambda d: d.name)


def _walk(root: Path, top: str, depth: int) -> Iterator[DropEntry]:
    """All files below a folder. Iterative: the depth is chosen by people that are not trusted."""
    folders: list[tuple[tuple[str, ...], str, int]] = [((top,), "", depth)]
    while folders:
        parts, prefix, left = folders.pop()
        path = root.joinpath(*parts)
        try:
            with folder_beneath(root, parts) as descriptor, os.scandir(descriptor) as listing:
                # the state of each file while the folder is open: the entries of a descriptor have no path
                found = [(i.name, i.is_dir(follow_symlinks=False), _status(i)) for i in islice(listing, MAX_LISTED)]
        except FileNotFoundError:
            continue  # moved away since it was listed
        except OSError:
            yield DropEntry(root, path, prefix or top, EntryKind.UNREADABLE, 0, 0)
            continue
        for name_there, is_folder, status in found:
            name = f"{prefix}/{name_there}" if prefix else name_there
            if is_hidden(name_there):
                continue
            if not is_folder:
                if status is not None:
                    yield _entry_of(root, path / name_there, name, status)
            elif left > 1:
                folders.append(((*parts, name_there), name, left - 1))
            else:
                yield DropEntry(root, path / name_there, name, EntryKind.TOO_DEEP, 0, 0)


def _status(item: os.DirEntry[str]) -> os.stat_result | None:
    """Of the entry itself, not of what a link points to; None where it was moved away."""
    try:
        return item.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None


def _loose(root: Path, item: os.DirEntry[str]) -> Iterator[DropEntry]:
    if (status := _status(item)) is not None:
        yield _entry_of(root, root / item.name, item.name, status)


def _entry_of(root: Path, path: Path, name: str, status: os.stat_result) -> DropEntry:
    return DropEntry(root, path, name, _kind(status.st_mode), status.st_size, status.st_mtime_ns)


def _kind(mode: int) -> EntryKind:
    if stat.S_ISREG(mode):
        return EntryKind.FILE
    return EntryKind.LINK if stat.S_ISLNK(mode) else EntryKind.SPECIAL


def _unfinished(entry: DropEntry) -> bool:
    return entry.kind is EntryKind.FILE and (entry.size == 0 or is_partial(entry.name))
