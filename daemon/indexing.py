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

ReadInstance = Callable[[Path], Instance]
"""Reads a header; raises `NotAnalysed` for what is no DICOM image and `OSError` where the disk fails."""

DAMAGED = "The stored bytes are not those that were received."


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that can belong to no series. `detail` is free of patient data."""

    path: str
    detail: str


def index_file(path: Path, received_dir: Path, read_instance: ReadInstance, now: datetime) -> IndexedFile | Unreadable:
    """Read the header and the content hash of one file of the spool.

    The file's name holds the first digits of the hash of what was received; other bytes mean that the disk has lost some.

    Raises
    ------
    OSError
        The file cannot be read now.
    """
    relative = path.relative_to(received_dir).as_posix()
    sha256, stored_at = content_of(path, now)
    if not sha256.startswith(path.stem.rpartition("-")[2]):
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
    return sha256, min(now, datetime.fromtimestamp(path.stat().st_mtime, UTC))
