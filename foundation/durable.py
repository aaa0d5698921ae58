"""Durable, atomic file writes: temporary name, fsync, rename, fsync of the folder.

| to write | use | after an error or a crash there is |
|---|---|---|
| a file that may exist already | `write_durably`, `replacing` | the old content or the new |
| a file that a peer is answered for | `create_durably`, `PartialFile` | the whole file or none |
| a file that several programs may make at once | `create_once` | the first one's |

A crash leaves at most a file whose name ends with `PARTIAL_SUFFIX`, which the next start removes.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from corewatch import casefolder

PARTIAL_SUFFIX: Final = casefolder.PARTIAL_SUFFIX
"""Suffix of a file that is still being written; after a crash it can be deleted."""

SHARED: Final = 0o666
"""Permissions before the process's umask: the umask decides who reads the file."""

GROUP: Final = 0o640
"""Permissions before the process's umask: the owner writes, the group reads."""

OWNER: Final = 0o600
"""Permissions: the owner only. For keys and passwords."""

_NO_FOLDER_SYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF})
"""What SMB, NFS and FUSE mounts answer to an fsync of a folder that they cannot do."""


@contextmanager
def replacing(path: Path, *, mode: int = SHARED, sync_name: bool = True) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`; at the end it is fsynced and renamed to `path`, on an error removed.

    Parameters
    ----------
    mode
        Permissions before the umask.
    sync_name
        Whether the folder is fsynced too. Of several files in one folder only the last needs it (`sync_folder`).

    Raises
    ------
    OSError
        The disk is full, the folder is missing or not writable.
    """
    temporary = _temporary(path)
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:  # sets the mode
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    if sync_name:
        sync_folder(path.parent)


def write_durably(path: Path, content: bytes, *, mode: int = SHARED, sync_name: bool = True) -> None:
    """Replace the content of `path`; the parameters and errors are those of `replacing`."""
    with replacing(path, mode=mode, sync_name=sync_name) as file:
        file.write(content)


class PartialFile:
    """A new file that is written piece by piece under a temporary name, and then has its final name, or is gone.

    Raises
    ------
    OSError
        On construction, from `write` and from `keep_as`: the disk is full or the folder is not writable. The file is discarded.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + PARTIAL_SUFFIX)
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, GROUP)
        self._open = True

    def write(self, chunk: bytes | memoryview) -> None:
        """Append all of `chunk`."""
        view = memoryview(chunk)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except BaseException:
            self.discard()
            raise

    def keep_as(self, path: Path) -> None:
        """Rename it to its final name, in the same folder; after return it survives a power loss under that name."""
        try:
            os.fsync(self._descriptor)
            self._path.replace(path)
        except BaseException:
            self.discard()
            raise
        self._close()
        try:
            sync_folder(path.parent)
        except BaseException:
            # the peer that gets the error sends the file again: it must not find one that a power loss may take away
            with suppress(OSError):
                path.unlink(missing_ok=True)
            raise

    def discard(self) -> None:
        """Remove it if the disk allows that; what is left is removed at the next start. Does nothing after `keep_as`."""
        if self._open:
            self._close()
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        self._open = False
        os.close(self._descriptor)


def create_durably(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Write a new file that survives a power loss after return. Readable by owner and group.

    Raises
    ------
    OSError
        The disk is full or the folder is not writable; nothing is left under the final name.
    """
    partial = PartialFile(path)
    try:
        for chunk in chunks:
            partial.write(chunk)
    except BaseException:
        partial.discard()
        raise
    partial.keep_as(path)


def create_once(path: Path, content: bytes, *, mode: int = OWNER) -> None:
    """Write a file unless it exists. Of several programs that do so at the same time the first one's file stays."""
    temporary = _temporary(path)
    try:
        write_durably(temporary, content, mode=mode, sync_name=False)
        with suppress(FileExistsError):
            path.hardlink_to(temporary)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def make_folders(folder: Path) -> None:
    """Make `folder` and its missing parents so that they survive a power loss.

    A file that was fsynced is lost if the name of any folder above it is lost.
    """
    if folder.is_dir():
        return
    make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_file(path: Path) -> None:
    """Fsync a file that another function has written."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Fsync a folder, so that new names and renames in it survive a power loss.

    A share that has no fsync for folders is not an error: its server decides when names are durable.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_descriptor(descriptor)
    finally:
        os.close(descriptor)


def sync_descriptor(folder: int) -> None:
    """Fsync an open folder, as `sync_folder` does."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}")
