"""Free disk space."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

FreeBytes = Callable[[Path], int]
"""Free bytes of a folder's file system; passed in, so that tests need no full disk."""


def free_bytes(folder: Path) -> int:
    """Bytes that this process can still write on the file system of `folder`.

    Raises
    ------
    OSError
        The folder is missing or its file system does not answer.
    """
    return shutil.disk_usage(folder).free
