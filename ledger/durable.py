"""Files that are whole or absent: written under a temporary name, fsynced, renamed, and the folder fsynced too."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from corewatch import casefolder

PARTIAL_SUFFIX = casefolder.PARTIAL_SUFFIX
"""Suffix of a file that is still being written; what bears it after a crash can be deleted."""


def write_durably(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Write `chunks` so that after return the file survives a power loss under its final name.

    Raises
    ------
    OSError
        The disk is full or the folder cannot be written; nothing is left under the final name.
    """
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    try:
        try:
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def make_folders(folder: Path) -> None:
    """Make `folder`, and those above it, where they are missing, so that they survive a power loss.

    A file that was synced is lost with the name of any folder above it.
    """
    if folder.is_dir():
        return
    make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and new names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
