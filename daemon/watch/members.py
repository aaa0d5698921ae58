"""Files of a drop, read one by one from the disk or out of a zip. Nothing is unpacked to disk, no link is followed."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import IO

from conversion.media import DAMAGED, ZIP_ERRORS, ArchiveLimits, check_entries, is_link
from corewatch.errors import CorewatchError, NotAnalysed, RetryLater
from corewatch.units import GIB
from daemon.watch.content import HEAD_BYTES, LeftOut
from daemon.watch.dicomdir import is_index
from daemon.watch.recipients import is_recipients
from daemon.watch.scan import DEFAULT_LIMITS, Drop, DropEntry, DropLimits, EntryKind, is_hidden, is_partial
from foundation.beneath import open_beneath

PERMISSIONS_REMEDY = (
    "It belongs to another user: let corewatch's user in (chmod -R g+rwX, or once for all a default ACL on the watched folder: "
    "setfacl -m d:u:corewatch:rwX), then drop it again."
)
UNFINISHED_ZIP = "The zip has no end: it was not written or uploaded completely."
_END_OF_ZIP = b"PK\x05\x06"
_END_WITHIN = 65_557
"""The end record has 22 bytes, then a comment of 65,535 at most (APPNOTE 4.3.16)."""
ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_ZIP_ERRORS = (*ZIP_ERRORS, OSError)


class DropRejected(CorewatchError):
    """The whole drop is rejected.

    Parameters
    ----------
    reason
        For people, free of file names.
    left_out
        What was found in it, file by file.
    """

    def __init__(self, reason: str, left_out: Sequence[LeftOut] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.left_out = tuple(left_out)


class DropIncomplete(DropRejected):
    """A part of the drop is missing and may still be copied: the inbox waits, then rejects the drop or ingests it without the part.

    Parameters
    ----------
    only
        Name of the incomplete drop, where several are ingested together.
    certain
        The files themselves show it. Otherwise the headers only make it likely.
    """

    def __init__(self, reason: str, only: str | None = None, *, certain: bool = True) -> None:
        super().__init__(reason)
        self.only = only
        self.certain = certain


class DropChanged(RetryLater):
    """The drop changed while it was read, so it had not settled; it is retried later."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a drop: its name within the drop, its size in bytes, its first bytes, and a function that reads all of it."""

    name: str
    size: int
    head: bytes
    read: Callable[[], bytes]


def _read_order(name: str) -> int:
    """Recipients first, then the index of a CD, then all else."""
    return 0 if is_recipients(name) else 1 if is_index(name) else 2


def members(drop: Drop, limits: DropLimits = DEFAULT_LIMITS) -> Iterator[Member | LeftOut]:
    """Every file of a drop, recipients and index first; those that cannot be ingested as `LeftOut` with the reason.

    Raises
    ------
    DropRejected
        It holds too many files, or is a zip that is damaged, encrypted, or malicious.
    DropIncomplete
        It is a zip without its end record.
    DropChanged
        A file differs from what the scan saw.
    """
    if drop.too_many:
        raise DropRejected(f"It holds more than {limits.files:,} files, the limit of the settings (watch.max_files).")
    for entry in sorted(drop.entries, key=lambda e: _read_order(e.name)):
        if entry.kind is EntryKind.UNREADABLE:
            yield LeftOut(entry.name, f"It is a folder that may not be read. {PERMISSIONS_REMEDY}")
        elif entry.kind is not EntryKind.FILE:
            yield LeftOut(entry.name, f"It is a {entry.kind}, which is never followed or read.")
        elif is_partial(entry.name):
            yield LeftOut(entry.name, "Its name says that it was never written to its end.")
        else:
            yield from _file_members(entry, limits, loose=not drop.is_folder)


def _file_members(entry: DropEntry, limits: DropLimits, *, loose: bool) -> Iterator[Member | LeftOut]:
    try:
        head = read_file(entry, HEAD_BYTES)
    except PermissionError:
        yield LeftOut(entry.name, f"The file may not be read: its permissions are missing. {PERMISSIONS_REMEDY}")
        return
    if not head.startswith(ZIP_MAGIC):
        yield Member(entry.name, entry.size, head, partial(read_file, entry))
    elif loose:
        yield from zip_members(entry, limits)
    else:
        yield LeftOut(entry.name, "A zip within a folder is not unpacked; drop it by itself.")


def read_file(entry: DropEntry, count: int | None = None) -> bytes:
    """Return the first `count` bytes of a file, or all.

    Raises
    ------
    DropChanged
        It was removed, cannot be read, or is no longer the same file.
    """
    with open_entry(entry) as stream:
        try:
            data = stream.read(entry.size if count is None else min(count, entry.size))
        except OSError as error:
            raise DropChanged from error
        if _changed(os.fstat(stream.fileno()), entry) or len(data) < min(entry.size, count or entry.size):
            raise DropChanged
        return data


def open_entry(entry: DropEntry) -> IO[bytes]:
    """Open a file. Never follows a link that replaced it or a folder above it, nor blocks on a pipe.

    Raises
    ------
    DropChanged
        It was removed, or is no longer a regular file.
    """
    try:
        return os.fdopen(open_beneath(entry.root, entry.parts), "rb")
    except PermissionError:
        raise
    except OSError as error:
        raise DropChanged from error


def zip_members(entry: DropEntry, limits: DropLimits = DEFAULT_LIMITS) -> Iterator[Member | LeftOut]:
    """The files of a zip, read one at a time from the archive itself.

    Raises
    ------
    DropRejected
        The archive is damaged, encrypted, or malicious.
    DropIncomplete
        It has no end record: it may still be uploaded.
    DropChanged
        It looks damaged because somebody is writing it again.
    """
    if entry.size > limits.archive.total_bytes:
        raise DropRejected(f"The zip is too large: {limits.archive.total_bytes / GIB:g} GiB are allowed (watch.max_zip_gib).")
    with open_entry(entry) as stream:
        if not has_end(stream):
            raise DropIncomplete(UNFINISHED_ZIP)
        try:
            with zipfile.ZipFile(stream) as archive:
                infos = [i for i in archive.infolist() if not i.is_dir()]
                check_archive(infos, entry.size, limits.archive)
                for info in sorted(infos, key=lambda i: _read_order(i.filename)):
                    if not any(is_hidden(part) for part in PurePosixPath(info.filename).parts):
                        yield _zip_member(archive, info, entry)
        except _ZIP_ERRORS as error:
            raise _damaged_or_changed(entry) from error


def unpacked_bytes(entry: DropEntry) -> int:
    """Unpacked size of a zip in bytes, by its central directory; its own size where that cannot be read."""
    try:
        with open_entry(entry) as stream, zipfile.ZipFile(stream) as archive:
            return sum(info.file_size for info in archive.infolist())
    except (*_ZIP_ERRORS, DropChanged):
        return entry.size  # it is judged, and rejected with its reason, when it is ingested


def has_end(stream: IO[bytes]) -> bool:
    """Whether a zip has its end of central directory record (APPNOTE 4.3.16), which is written last."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _END_WITHIN))
    found = _END_OF_ZIP in stream.read(_END_WITHIN)
    stream.seek(0)
    return found


def check_archive(infos: list[zipfile.ZipInfo], archive_bytes: int, limits: ArchiveLimits = DEFAULT_LIMITS.archive) -> None:
    """Reject malicious archives, by their central directory.

    Raises
    ------
    DropRejected
        With the reason.
    """
    for info in infos:
        path = PurePosixPath(info.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in info.filename.split("/")[0]:
            raise DropRejected("The zip holds names that lead out of its own folder.")
        if is_link(info):
            raise DropRejected("The zip holds symbolic links.")
    try:
        check_entries(infos, archive_bytes, limits)
    except NotAnalysed as error:
        raise DropRejected(error.detail) from error


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, entry: DropEntry) -> Member:
    with archive.open(info) as stream:
        head = stream.read(HEAD_BYTES)
    # a stream ends at the size in the central directory, so an entry cannot unpack to more than was checked
    return Member(info.filename, info.file_size, head, partial(_read_zipped, archive, info, entry))


def _read_zipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo, entry: DropEntry) -> bytes:
    try:
        return archive.read(info)
    except _ZIP_ERRORS as error:
        raise _damaged_or_changed(entry) from error


def _damaged_or_changed(entry: DropEntry) -> DropRejected | DropChanged:
    try:
        changed = _changed(entry.path.lstat(), entry)
    except OSError:
        changed = True
    return DropChanged() if changed else DropRejected(DAMAGED)


def _changed(status: os.stat_result, entry: DropEntry) -> bool:
    return (status.st_size, status.st_mtime_ns) != (entry.size, entry.mtime_ns)
