"""Files that are whole or absent: written under a temporary name, fsynced, renamed, and the folder fsynced too."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from corewatch import casefolder

PARTIAL_SUFFIX = casefolder.PARTIAL_SUFFIX
"""Suffix of a file that is still being written; what bears it after a crash can be deleted."""


class PartialFile:
    """A file that is written piece by piece under a temporary name, and then is whole under its final one, or gone.

    Raises
    ------
    OSError
        When made, from `write` and from `keep_as`: the disk is full or the folder cannot be written. The file is discarded.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + PARTIAL_SUFFIX)
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
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
        """Give it its final name, in the same folder; after return it survives a power loss under that name."""
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
            # who is told of the failure brings the file again: it must not find one that a power loss may take away
            with suppress(OSError):
                path.unlink(missing_ok=True)
            raise

    def discard(self) -> None:
        """Remove it, where the disk lets us: what is left is swept up at the next start. Does nothing after it was kept."""
        if self._open:
            self._close()
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        self._open = False
        os.close(self._descriptor)


def write_durably(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Write `chunks` so that after return the file survives a power loss under its final name.

    Raises
    ------
    OSError
        The disk is full or the folder cannot be written; nothing is left under the final name.
    """
    partial = PartialFile(path)
    try:
        for chunk in chunks:
            partial.write(chunk)
    except BaseException:
        partial.discard()
        raise
    partial.keep_as(path)


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
