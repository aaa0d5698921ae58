"""From a stored file to the row that the ledger keeps of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from corewatch.errors import NotAnalysed
from corewatch.instance import Instance
from ledger.intake import IndexedFile
from ledger.spool import named_digest

ReadInstance = Callable[[Path], Instance]
"""Reads a header; raises `NotAnalysed` for what is no DICOM image and `OSError` where the disk fails."""

_DIGEST_DIGITS = 64
"""Of a SHA-256 (hex)."""

DAMAGED = "The stored bytes are not those that were received."


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that can belong to no series. `detail` is free of patient data."""

    path: str
    detail: str


def index_file(
    path: Path, received_dir: Path, read_instance: ReadInstance, now: datetime, *, proven: bool
) -> IndexedFile | Unreadable:
    """Read the header of one file of the spool; its name holds the hash of what was received.

    Parameters
    ----------
    proven
        It was stored since this program runs, so that a read would only give back what was written a moment ago. Otherwise all of
        it is read: where other bytes come than were received, the disk has lost some in a crash.

    Raises
    ------
    OSError
        The file cannot be read now.
    """
    relative = path.relative_to(received_dir).as_posix()
    named = named_digest(path)
    if proven and len(named) == _DIGEST_DIGITS:
        sha256, stored_at = named, _stored_at(path, now)
    else:
        sha256, stored_at = content_of(path, now)
        if not sha256.startswith(named):
            return Unreadable(relative, DAMAGED)
    try:
        header = read_instance(path)
    except NotAnalysed as error:
        return Unreadable(relative, error.detail or error.reason.sentence)
    return IndexedFile(relative, sha256, stored_at, header)


def content_of(path: Path, now: datetime) -> tuple[str, datetime]:
    """SHA-256 (hex) of a file's bytes, and when it was stored: never later than `now`, whatever the disk's clock says."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return sha256, _stored_at(path, now)


def _stored_at(path: Path, now: datetime) -> datetime:
    return min(now, datetime.fromtimestamp(path.stat().st_mtime, UTC))
