"""Arrivals in the spool: which there are, which files each has stored, how it ended, and what a file's header says."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from corewatch.arrival import Arrival, ArrivalOutcome, ArrivalSource, Closing
from corewatch.completeness import Transfer
from corewatch.errors import NotAnalysed
from corewatch.instance import Instance
from foundation.durable import PARTIAL_SUFFIX
from ledger.intake import IndexedFile
from ledger.spool import LOCK_FILE, aligned_file, instance_files, named_digest, read_arrival, read_closing, writer_is_gone

log = structlog.get_logger()

ABANDONED_AFTER = timedelta(hours=1)
"""An arrival that was never closed is ended this long after its last file: its program died, or a sender keeps an association open
and sends nothing. What is received over that association afterwards becomes another arrival."""

_RESCAN_EVERY = 10
"""The received folder is listed at least at every tenth scan, even when its modification time has not changed."""

_TICK_NS = 100_000_000
"""Modification times advance in steps of milliseconds: a folder that changed just before a listing may change once more."""


@dataclass(slots=True)
class OpenArrival:
    """An arrival whose files are not all in the ledger yet.

    Attributes
    ----------
    known
        Names of its files that are in the ledger.
    unproven
        Names of files that were stored before the daemon started: the machine may have crashed since they were written.
    last_change
        When its newest file was stored, or when it was opened.
    left
        Number of files left for the next step, because there are many or the disk failed just now. While there are any, every
        series may still get instances.
    closing
        How it ended; None while it is open.
    series
        Series of its instances, repeated ones included.
    added
        Number of its instances that a case got: new ones, and known ones whose files were gone.
    repeated, contradicted
        Cases of the instances that were received before, with the same content and with other content.
    """

    arrival: Arrival
    folder: Path
    last_change: datetime
    known: set[str] = field(default_factory=set)
    unproven: frozenset[str] = frozenset()
    left: int = 0
    closing: Closing | None = None
    series: set[str] = field(default_factory=set)
    added: int = 0
    identical: int = 0
    conflicting: int = 0
    repeated: set[str] = field(default_factory=set)
    contradicted: set[str] = field(default_factory=set)
    unreadable: int = 0
    _changed_ns: int = -1

    def scan(self, now: datetime) -> list[Path]:
        """Files that are not in the ledger yet, sorted by name. Also updates `last_change` and `closing`.

        Raises
        ------
        FileNotFoundError
            The folder was removed.
        """
        if self.closing is None:
            # read before the listing: then the listing has every file that was stored before the arrival was closed
            self.closing = closing_in(self.folder)
        # every new name in a folder changes its modification time
        changed_ns = self.folder.stat().st_mtime_ns
        if changed_ns != self._changed_ns:
            # only when it changed: after the clock was set back it stays in the future although nothing is received
            self._changed_ns = changed_ns
            self.last_change = max(self.last_change, min(now, datetime.fromtimestamp(changed_ns / 1e9, UTC)))
        files = instance_files(self.folder)
        aligned = aligned_file(self.folder)
        if aligned is not None:
            files.append(aligned)
        return sorted(p for p in files if p.name not in self.known)

    def transfer(self, now: datetime, idle: timedelta, *, carried: bool) -> Transfer:
        """This arrival as evidence of completeness. One that is silent for `idle` counts as aborted: its program may have died."""
        if self.left or (self.closing is None and (now - self.last_change < idle or self.is_being_written())):
            return Transfer(self.arrival.opened_at, None, carried=carried)
        closing = self.closing or Closing(self.last_change, ArrivalOutcome.ABORTED, 0)
        return transfer_of(self.arrival, closing, carried=carried)

    def is_being_written(self) -> bool:
        """Whether the daemon itself stores a drop there now."""
        return (
            self.arrival.source is ArrivalSource.FOLDER and (self.folder / LOCK_FILE).exists() and not writer_is_gone(self.folder)
        )

    def same_sender(self, other: Arrival) -> bool:
        """Whether `other` was received by C-STORE from the same AE title and host."""
        mine = self.arrival
        return (
            mine.source is ArrivalSource.C_STORE
            and other.source is ArrivalSource.C_STORE
            and (mine.peer_ae_title, mine.peer_host) == (other.peer_ae_title, other.peer_host)
        )


@dataclass(frozen=True, slots=True)
class PastArrival:
    """An arrival whose files are all in the ledger.

    Attributes
    ----------
    closing
        None when its program died.
    series
        Series of its instances; empty when it was indexed before the daemon started.
    """

    arrival: Arrival
    closing: Closing | None
    series: frozenset[str]


def transfer_of(arrival: Arrival, closing: Closing, *, carried: bool = True) -> Transfer:
    """A closed arrival as evidence of completeness."""
    # after the clock was set back it must not end before it began
    closed_at = max(closing.closed_at, arrival.opened_at)
    outcome = closing.outcome
    return Transfer(
        arrival.opened_at,
        closed_at,
        aborted=outcome is not ArrivalOutcome.RELEASED,
        carried=carried,
        interrupted=outcome is ArrivalOutcome.INTERRUPTED,
    )


class ArrivalFolders:
    """Lists the arrivals in the received folder.

    The listing is skipped while the folder's modification time does not change: thousands of arrivals wait for retention, and this
    runs five times per second.
    """

    def __init__(self, received_dir: Path) -> None:
        self._dir = received_dir
        self._changed = -1
        self._listed = 0
        self._scans = 0

    def names(self) -> list[str] | None:
        """Names of all arrivals' folders, oldest first; None when nothing has changed since the last call."""
        try:
            changed = self._dir.stat().st_mtime_ns
        except FileNotFoundError:
            return []
        self._scans += 1
        settled = changed == self._changed and changed < self._listed - _TICK_NS
        if settled and self._scans % _RESCAN_EVERY:
            return None
        self._changed, self._listed = changed, time.time_ns()
        with os.scandir(self._dir) as entries:
            return sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))

    def force_listing(self) -> None:
        """List the folder at the next call: one of the arrivals was not ready."""
        self._changed = -1


def arrival_in(folder: Path) -> Arrival | None:
    """The record of an arrival: who sent it and how. None while its folder is still being created.

    Instances without a readable record count as an arrival of an unknown sender.

    Raises
    ------
    FileNotFoundError
        The folder does not exist.
    """
    try:
        arrival = read_arrival(folder)
    except (ValueError, KeyError, TypeError):
        log.exception("arrival_record_damaged", arrival=folder.name, effect="its sender counts as unknown")
        arrival = None
    else:
        if arrival is not None:
            return replace(arrival, arrival_id=folder.name)
        if not (instance_files(folder) or aligned_file(folder)):
            return None
    opened_at = datetime.fromtimestamp(min(p.stat().st_mtime for p in (folder, *folder.iterdir())), UTC)
    return Arrival(folder.name, ArrivalSource.C_STORE, opened_at)


def closing_in(folder: Path) -> Closing | None:
    """How an arrival ended; None while it is open. With a damaged record it counts as aborted: its instances are still used."""
    try:
        return read_closing(folder)
    except (ValueError, KeyError, TypeError):
        log.exception("arrival_closing_damaged", arrival=folder.name, effect="it counts as aborted")
        return Closing(datetime.fromtimestamp(folder.stat().st_mtime, UTC), ArrivalOutcome.ABORTED, 0)


def interrupted(arrival: OpenArrival, now: datetime) -> Closing | None:
    """The closing of an arrival whose program ended without closing it; None while that program lives, or where that is unknown."""
    if arrival.closing is not None or not writer_is_gone(arrival.folder):
        return None
    closing = closing_in(arrival.folder)  # again: it is written before the lock is released
    if closing is not None:
        return closing
    # not the folder's time, which a removed partial file changes: the sender's next association must be later than this
    newest = max((_changed_at(p, now) for p in instance_files(arrival.folder)), default=arrival.arrival.opened_at)
    return Closing(max(newest, arrival.arrival.opened_at), ArrivalOutcome.INTERRUPTED, len(arrival.known))


def abandoned(arrival: OpenArrival, now: datetime) -> Closing | None:
    """The closing of an arrival whose program died; None while something may still write into it."""
    if arrival.closing is not None or now - arrival.last_change < ABANDONED_AFTER:
        return None
    # while gigabytes are received over a slow line, only the partial file changes
    if any(now - _changed_at(p, now) < ABANDONED_AFTER for p in arrival.folder.glob(f"*{PARTIAL_SUFFIX}")):
        return None
    return Closing(arrival.last_change, ArrivalOutcome.ABORTED, len(arrival.known))


def _changed_at(path: Path, now: datetime) -> datetime:
    """When a file was last written, never in the future; `now` when it has just got its final name."""
    try:
        return min(now, datetime.fromtimestamp(path.stat().st_mtime, UTC))
    except FileNotFoundError:
        return now


ReadInstance = Callable[[Path], Instance]
"""Reads a header; raises `NotAnalysed` for a file that is no DICOM image and `OSError` when the disk fails."""

_DIGEST_DIGITS = 64
"""Length of a SHA-256 in hex."""

DAMAGED = "The stored bytes are not those that were received."


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that belongs to no series, because it cannot be read. `detail` is free of patient data."""

    path: str
    detail: str


def index_file(
    path: Path, received_dir: Path, read_instance: ReadInstance, now: datetime, *, proven: bool
) -> IndexedFile | Unreadable:
    """Read the header of one file of the spool, whose name contains the hash of the received bytes.

    Parameters
    ----------
    proven
        It was stored since this program started. Otherwise the whole file is read and compared with the hash, since the disk may
        have lost bytes in a crash.

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
        sha256, stored_at = digest_of(path, now)
        if not sha256.startswith(named):
            return Unreadable(relative, DAMAGED)
    try:
        header = read_instance(path)
    except NotAnalysed as error:
        return Unreadable(relative, error.detail or error.reason.sentence)
    return IndexedFile(relative, sha256, stored_at, header)


def digest_of(path: Path, now: datetime) -> tuple[str, datetime]:
    """SHA-256 (hex) of a file's bytes, and when it was stored: never later than `now`."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return sha256, _stored_at(path, now)


def _stored_at(path: Path, now: datetime) -> datetime:
    return min(now, datetime.fromtimestamp(path.stat().st_mtime, UTC))
