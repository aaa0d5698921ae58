"""Moving a drop that was dealt with out of the way, with a note beside it that says why. Nothing is ever deleted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import count
from pathlib import Path

from daemon.watch.content import LeftOut
from foundation.durable import create_durably

NOTE_SUFFIX = ".reason.txt"
_LONGEST_NAME_BYTES = 200
"""Of a file name's 255: leaves room for the time and the note's suffix."""


def put_away(path: Path, folder: Path, note: str | None, now: datetime) -> Path:
    """Move `path` into `folder` as `<time>-<name>`, with `note` beside it, and return its new path.

    The note is written first: what lies in the folder always has its reason.

    Raises
    ------
    OSError
        It could not be moved and is where it was.
    """
    folder.mkdir(exist_ok=True)
    target = _free_name(folder, f"{now:%Y%m%dT%H%M%SZ}-{_shorten(path.name)}")
    beside = target.with_name(target.name + NOTE_SUFFIX)
    if note is not None:
        create_durably(beside, [note.encode("utf-8", "backslashreplace")])
    try:
        path.rename(target)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    return target


def describe(reason: str, left_out: Sequence[LeftOut]) -> str:
    """The text of a note: the reason, and what was found file by file."""
    return "\n".join([reason, *(f"- {printable(item.name)}: {item.reason}" for item in left_out), ""])


def printable(name: str) -> str:
    """A name without control characters: one with a line break must not write lines of its own."""
    return "".join(c if c.isprintable() or "\udc80" <= c <= "\udcff" else repr(c)[1:-1] for c in name)


def _free_name(folder: Path, name: str) -> Path:
    candidates = (folder / (name if n == 1 else f"{name}-{n}") for n in count(1))
    return next(c for c in candidates if not c.exists() and not c.is_symlink() and not c.with_name(c.name + NOTE_SUFFIX).exists())


def _shorten(name: str) -> str:
    encoded = name.encode("utf-8", "surrogateescape")
    if len(encoded) <= _LONGEST_NAME_BYTES:
        return name
    return encoded[:_LONGEST_NAME_BYTES].decode("utf-8", "ignore")
