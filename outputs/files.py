"""Writing files so that a crash leaves the old content or the new, never half of it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from corewatch.casefolder import PARTIAL_SUFFIX

_NO_FOLDER_SYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF})
"""What SMB, NFS and FUSE mounts answer to an fsync of a folder that they have no way to do."""


def write_atomically(path: Path, data: bytes, *, last: bool = True) -> None:
    """Write `data` under a temporary name beside `path`, fsync, rename, and fsync the folder.

    Of several files into one folder only the `last` needs the folder's fsync.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL_SUFFIX}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if last:
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """fsync a folder, so that names in it outlive a power cut; a share that cannot do that for folders is left to its own care."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(handle)
