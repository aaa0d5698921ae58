"""Files below a folder that other people can write: opened, made and moved without following a link.

Each call resolves a path again, so that somebody who replaces a folder by a symbolic link between two calls directs the second one
elsewhere, with our rights. Here each part of a path is opened by itself, relative to the descriptor of the part before it, and a
link is an error. Only the folder `root` itself may be reached over links: the settings name it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from foundation.durable import GROUP, sync_descriptor

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def folder_beneath(root: Path, parts: Sequence[str] = (), *, make: bool = False) -> Iterator[int]:
    """Descriptor of a folder, `parts` below `root`; valid within the context.

    Parameters
    ----------
    make
        Make missing folders.

    Raises
    ------
    OSError
        It is missing, no folder, or a symbolic link.
    """
    descriptor = os.open(root, _FOLDER)
    try:
        for part in parts:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=descriptor)
                    sync_descriptor(descriptor)
            inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def open_beneath(root: Path, parts: Sequence[str]) -> int:
    """Descriptor of a regular file, to read. Neither follows a link nor waits for the writer of a pipe; a device is not opened.

    Raises
    ------
    OSError
        It is missing, no regular file, or below a symbolic link.
    """
    *folders, name = parts
    with folder_beneath(root, folders) as folder:
        if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        descriptor = os.open(name, _FILE, dir_fd=folder)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "not a regular file")
        return descriptor


def create_in(folder: int, name: str, chunks: Iterable[bytes]) -> None:
    """Make a file in an open folder, durable on return. Never replaces one, nor writes through a link.

    Raises
    ------
    FileExistsError
        The name is taken.
    OSError
        It cannot be written; nothing is left.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, GROUP, dir_fd=folder)
    try:
        for chunk in chunks:
            left = memoryview(chunk)
            while left:
                left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    except BaseException:
        with suppress(OSError):
            os.unlink(name, dir_fd=folder)
        raise
    finally:
        os.close(descriptor)
    sync_descriptor(folder)


def exists_in(folder: int, name: str) -> bool:
    """Whether an open folder has an entry of this name, of any kind."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
