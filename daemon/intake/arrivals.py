"""The spool as the assembler sees it: which arrivals there are, what each has stored, and how it ended."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from corewatch.arrival import Arrival, ArrivalOutcome, ArrivalSource, Closing
from corewatch.completeness import Transfer
from foundation.durable import PARTIAL_SUFFIX
from ledger.spool import aligned_file, instance_files, read_arrival, read_closing

log = structlog.get_logger()

ABANDONED_AFTER = timedelta(hours=1)
"""An arrival that was never closed is ended so long after its last file: its program has died, or a sender keeps an association
open and sends no image. What still comes over that one becomes another arrival."""

_RESCAN_EVERY = 10
"""The received folder is listed anew at least every so many looks, though its time of change says that nothing is new."""

_TICK_NS = 100_000_000
"""Times of change advance in steps of some milliseconds: what changed just before a listing may have changed after it too."""


@dataclass(slots=True)
class OpenArrival:
    """An arrival that is not wholly in the ledger yet.

    Attributes
    ----------
    known
        Names of its files that have a row.
    unproven
        Names of files that were there when the daemon was started: the machine may have crashed since they were written.
    last_change
        When its newest file was stored, or when it was opened.
    left
        Files that lie there and are not taken in, because they are many or the disk did not give them just now: as long as there
        are any, something is still to come, of whatever series.
    closing
        How it ended; None while it is open.
    series
        Series that it brought something of, repeated images included.
    added
        Images that it brought a case: new ones, and known ones whose files were gone.
    repeated, contradicted
        Cases of the images that were here before, with the same contents and with others.
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

    def look(self, now: datetime) -> list[Path]:
        """Files that have no row yet, sorted by name. Also notes when the last one was stored, and the end of the arrival.

        Raises
        ------
        FileNotFoundError
            Somebody removed the folder.
        """
        if self.closing is None:
            # before the listing: what was stored before the arrival was closed is in a listing made after that
            self.closing = closing_in(self.folder)
        # every new name in a folder sets its time of change
        changed_ns = self.folder.stat().st_mtime_ns
        if changed_ns != self._changed_ns:
            # only then: after the clock was set back it lies in the future for long, though nothing comes any more
            self._changed_ns = changed_ns
            self.last_change = max(self.last_change, min(now, datetime.fromtimestamp(changed_ns / 1e9, UTC)))
        files = instance_files(self.folder)
        aligned = aligned_file(self.folder)
        if aligned is not None:
            files.append(aligned)
        return sorted(p for p in files if p.name not in self.known)

    def transfer(self, now: datetime, idle: timedelta, *, carried: bool) -> Transfer:
        """This arrival as a sign of completeness. One that is silent for `idle` counts as aborted: its program may have died."""
        if self.left or (self.closing is None and now - self.last_change < idle):
            return Transfer(self.arrival.opened_at, None, carried=carried)
        closing = self.closing or Closing(self.last_change, ArrivalOutcome.ABORTED, 0)
        return transfer_of(self.arrival, closing, carried=carried)

    def same_sender(self, other: Arrival) -> bool:
        """Whether `other` came over the network from the same application on the same host."""
        mine = self.arrival
        return (
            mine.source is ArrivalSource.C_STORE
            and other.source is ArrivalSource.C_STORE
            and (mine.peer_ae_title, mine.peer_host) == (other.peer_ae_title, other.peer_host)
        )


@dataclass(frozen=True, slots=True)
class PastArrival:
    """An arrival that is wholly in the ledger.

    Attributes
    ----------
    closing
        None where its program died.
    series
        Series that it brought something of; empty where that was before the daemon was started.
    """

    arrival: Arrival
    closing: Closing | None
    series: frozenset[str]


def transfer_of(arrival: Arrival, closing: Closing, *, carried: bool = True) -> Transfer:
    """A closed arrival as a sign of completeness."""
    # a clock that was set back meanwhile must not let it end before it began: it would seem to come after itself
    closed_at = max(closing.closed_at, arrival.opened_at)
    return Transfer(arrival.opened_at, closed_at, aborted=closing.outcome is ArrivalOutcome.ABORTED, carried=carried)


class ArrivalFolders:
    """Finds new arrivals in the received folder.

    Its listing is skipped while the folder's time of change stands still, so that the thousands of arrivals that wait for retention
    cost nothing five times a second.
    """

    def __init__(self, received_dir: Path) -> None:
        self._dir = received_dir
        self._changed = -1
        self._listed = 0
        self._looks = 0

    def names(self) -> list[str] | None:
        """Names of all arrivals' folders, oldest first; None where nothing has changed since the last look."""
        try:
            changed = self._dir.stat().st_mtime_ns
        except FileNotFoundError:
            return []
        self._looks += 1
        settled = changed == self._changed and changed < self._listed - _TICK_NS
        if settled and self._looks % _RESCAN_EVERY:
            return None
        self._changed, self._listed = changed, time.time_ns()
        with os.scandir(self._dir) as entries:
            return sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))

    def look_again(self) -> None:
        """List the folder at the next look: one of the arrivals was not ready."""
        self._changed = -1


def arrival_in(folder: Path) -> Arrival | None:
    """Who sent what lies in `folder`.

    None where there is nothing to know yet: the folder is being made. Images without a readable record of their sender still count,
    as an arrival of an unknown one.

    Raises
    ------
    FileNotFoundError
        There is no such folder.
    """
    try:
        arrival = read_arrival(folder)
    except (ValueError, KeyError, TypeError):
        log.exception("an arrival's record is damaged; its images are taken as those of an unknown sender", arrival=folder.name)
        arrival = None
    else:
        if arrival is not None:
            return replace(arrival, arrival_id=folder.name)
        if not (instance_files(folder) or aligned_file(folder)):
            return None
    opened_at = datetime.fromtimestamp(min(p.stat().st_mtime for p in (folder, *folder.iterdir())), UTC)
    return Arrival(folder.name, ArrivalSource.C_STORE, opened_at)


def closing_in(folder: Path) -> Closing | None:
    """How an arrival ended; where that record is damaged it counts as aborted: its images are here all the same."""
    try:
        return read_closing(folder)
    except (ValueError, KeyError, TypeError):
        log.exception("an arrival's record of its end is damaged; it counts as aborted", arrival=folder.name)
        return Closing(datetime.fromtimestamp(folder.stat().st_mtime, UTC), ArrivalOutcome.ABORTED, 0)


def abandoned(arrival: OpenArrival, now: datetime) -> Closing | None:
    """The end of an arrival whose program died, once nobody can be expected to write into it any more."""
    if arrival.closing is not None or now - arrival.last_change < ABANDONED_AFTER:
        return None
    # an image of gigabytes over a slow line changes its own file only
    if any(now - _changed_at(p, now) < ABANDONED_AFTER for p in arrival.folder.glob(f"*{PARTIAL_SUFFIX}")):
        return None
    return Closing(arrival.last_change, ArrivalOutcome.ABORTED, len(arrival.known))


def _changed_at(path: Path, now: datetime) -> datetime:
    """When a file was last written, never in the future; `now` where it has just got its final name."""
    try:
        return min(now, datetime.fromtimestamp(path.stat().st_mtime, UTC))
    except FileNotFoundError:
        return now
