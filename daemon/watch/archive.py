"""Archive of a watched folder: moves a drop into `processed` or `rejected`, with a note that gives the reason.

People that are not trusted can write into the watched folder and replace anything in it at any moment: nothing follows a link.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from itertools import count
from pathlib import Path

from daemon.watch.content import LeftOut
from foundation.beneath import create_in, exists_in, folder_beneath

NOTE_SUFFIX = ".reason.txt"
_MAX_NAME_BYTES = 200
"""Of a file name's 255: leaves room for the timestamp and the note's suffix."""


def prepare_archive(watched: Path, where: str) -> None:
    """Make the archive folder `where` of a watched folder.

    Raises
    ------
    OSError
        It cannot be made, or is something else than a folder, such as a symbolic link.
    """
    with folder_beneath(watched, [where], make=True):
        return


def move_to_archive(watched: Path, name: str, where: str, note: str | None, now: datetime) -> Path:
    """Move an entry of a watched folder to `<where>/<time>-<name>`, with `note` beside it, and return its new path.

    The note is written first, so that everything in the archive has its reason. A link is moved, not what it points to.

    Raises
    ------
    OSError
        It could not be moved and is where it was.
    """
    with folder_beneath(watched) as source, folder_beneath(watched, [where], make=True) as archive:
        target = _free_name(archive, f"{now:%Y%m%dT%H%M%SZ}-{_shorten(name)}")
        beside = target + NOTE_SUFFIX
        if note is not None:
            create_in(archive, beside, [note.encode("utf-8", "backslashreplace")])
        try:
            os.rename(name, target, src_dir_fd=source, dst_dir_fd=archive)
        except OSError:
            if note is not None:
                os.unlink(beside, dir_fd=archive)
            raise
    return watched / where / target


def note_text(reason: str, left_out: Sequence[LeftOut]) -> str:
    """The text of a note: the reason, and one line for each file that was left out."""
    return "\n".join([reason, *(f"- {printable(item.name)}: {item.reason}" for item in left_out), ""])


def printable(name: str) -> str:
    """A name without control characters: one with a line break must not add lines to the note."""
    return "".join(c if c.isprintable() or "\udc80" <= c <= "\udcff" else repr(c)[1:-1] for c in name)


def _free_name(folder: int, name: str) -> str:
    candidates = (name if n == 1 else f"{name}-{n}" for n in count(1))
    return next(c for c in candidates if not exists_in(folder, c) and not exists_in(folder, c + NOTE_SUFFIX))


def _shorten(name: str) -> str:
    encoded = name.encode("utf-8", "surrogateescape")
    return name if len(encoded) <= _MAX_NAME_BYTES else encoded[:_MAX_NAME_BYTES].decode("utf-8", "ignore")
