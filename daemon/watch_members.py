"""The files of a drop one by one, from the disk or out of a zip. Nothing is unpacked to disk, no link is followed."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import IO

from conversion.media import DAMAGED, LIMITS, ZIP_ERRORS, Limits, check_entries, is_link
from corewatch.errors import CorewatchError, NotAnalysed, RetryLater
from daemon.watch_content import HEAD_BYTES, LeftOut
from daemon.watch_scan import Drop, Entry, EntryKind, is_hidden, is_partial

RECIPIENTS_FILE = "email.txt"
"""In a dropped folder or zip: addresses that get its results too, one a line."""
ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_ZIP_ERRORS = (*ZIP_ERRORS, OSError)


class DropRejected(CorewatchError):
    """The whole drop is refused.

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


class DropChanged(RetryLater):
    """The drop changed while it was read: it was not settled after all, and is looked at again later."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file: its name within the drop, its size in bytes, its first bytes, and how to get all of it."""

    name: str
    size: int
    head: bytes
    read: Callable[[], bytes]


def is_recipients(name: str) -> bool:
    """Whether this is the recipients file of a drop."""
    return name.rpartition("/")[2].lower() == RECIPIENTS_FILE


def members(drop: Drop) -> Iterator[Member | LeftOut]:
    """Every file of a drop, the recipients file first; those that cannot be taken come as `LeftOut` with the reason.

    Raises
    ------
    DropRejected
        It is a zip that is damaged, encrypted, or made to do harm.
    DropChanged
        A file is not the one that was seen when the folder was scanned.
    """
    for entry in sorted(drop.entries, key=lambda e: not is_recipients(e.name)):
        if entry.kind is not EntryKind.FILE:
            yield LeftOut(entry.name, f"It is a {entry.kind}, which is never followed or read.")
        elif is_partial(entry.name):
            yield LeftOut(entry.name, "Its name says that it was never written to its end.")
        else:
            yield from _file_members(entry, loose=not drop.is_folder)


def _file_members(entry: Entry, loose: bool) -> Iterator[Member | LeftOut]:
    try:
        head = read_file(entry, HEAD_BYTES)
    except PermissionError:
        yield LeftOut(entry.name, "The file may not be read: its permissions are missing.")
        return
    if not head.startswith(ZIP_MAGIC):
        yield Member(entry.name, entry.size, head, partial(read_file, entry))
    elif loose:
        yield from zip_members(entry)
    else:
        yield LeftOut(entry.name, "A zip within a folder is not unpacked; drop it by itself.")


def read_file(entry: Entry, count: int | None = None) -> bytes:
    """Return the first `count` bytes of a file, or all.

    Raises
    ------
    DropChanged
        It is gone, cannot be read, or is not the same file any more.
    """
    with open_entry(entry) as stream:
        try:
            data = stream.read(entry.size if count is None else min(count, entry.size))
        except OSError as error:
            raise DropChanged from error
        if _changed(os.fstat(stream.fileno()), entry) or len(data) < min(entry.size, count or entry.size):
            raise DropChanged
        return data


def open_entry(entry: Entry) -> IO[bytes]:
    """Open a file without following a link that was put in its place, and without waiting for a pipe's writer.

    Raises
    ------
    DropChanged
        It is gone, or not a file any more.
    """
    try:
        descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        raise
    except OSError as error:
        raise DropChanged from error
    stream = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        stream.close()
        raise DropChanged
    return stream


def zip_members(entry: Entry) -> Iterator[Member | LeftOut]:
    """The files of a zip, read one at a time from the archive itself.

    Raises
    ------
    DropRejected
        The archive is damaged, encrypted, or made to do harm.
    """
    with open_entry(entry) as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                infos = [i for i in archive.infolist() if not i.is_dir()]
                check_archive(infos, entry.size)
                for info in sorted(infos, key=lambda i: not is_recipients(i.filename)):
                    if not any(is_hidden(part) for part in PurePosixPath(info.filename).parts):
                        yield _zip_member(archive, info)
        except _ZIP_ERRORS as error:
            raise DropRejected(DAMAGED) from error


def check_archive(infos: list[zipfile.ZipInfo], archive_bytes: int, limits: Limits = LIMITS) -> None:
    """Refuse archives that are made to do harm, going by their table of contents.

    Raises
    ------
    DropRejected
        With the reason.
    """
    for info in infos:
        path = PurePosixPath(info.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
            raise DropRejected("The zip holds names that lead out of its own folder.")
        if is_link(info):
            raise DropRejected("The zip holds symbolic links.")
    try:
        check_entries(infos, archive_bytes, limits)
    except NotAnalysed as error:
        raise DropRejected(error.detail) from error


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    with archive.open(info) as stream:
        head = stream.read(HEAD_BYTES)
    # a stream ends at the size that the table of contents gives, so an entry cannot unpack to more than was checked
    return Member(info.filename, info.file_size, head, partial(_read_zipped, archive, info))


def _read_zipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        return archive.read(info)
    except _ZIP_ERRORS as error:
        raise DropRejected(DAMAGED) from error


def _changed(status: os.stat_result, entry: Entry) -> bool:
    return (status.st_size, status.st_mtime_ns) != (entry.size, entry.mtime_ns)
