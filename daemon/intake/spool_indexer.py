"""Spool indexer: records every stored file in the ledger, once."""

from __future__ import annotations

import traceback
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError, StatementError

from corewatch.arrival import ArrivalOutcome, Closing
from corewatch.reasons import Reason
from daemon.intake.arrivals import (
    ArrivalFolders,
    OpenArrival,
    PastArrival,
    ReadInstance,
    Unreadable,
    abandoned,
    arrival_in,
    closing_in,
    digest_of,
    index_file,
    interrupted,
)
from daemon.intake.instance_checks import completes, same_instance
from daemon.intake.triage import Triage
from foundation.outages import OutageTracker
from ledger.intake import IndexedFile
from ledger.spool import ALIGNED_FILE, instance_files, write_closing
from ledger.store import Ledger

log = structlog.get_logger()

BATCH = 64
"""Instances per transaction."""

MAX_FILES_PER_STEP = 2048
"""Files of one arrival that a step indexes: after an outage, ten thousand instances of one sender must not delay another's."""

READ_ATTEMPTS = 25
"""Steps in which the disk fails to read a file before its case is ended as failed."""

_DISK_FAILED = "a stored file cannot be read from the disk; check the disk and the permissions of the data folder"
_NOT_STORABLE = "Its header holds values that the ledger cannot store."
_NOT_UNDERSTOOD = "Its header could not be understood."


@dataclass(slots=True)
class Changes:
    """What one step has indexed.

    Attributes
    ----------
    series
        Series that got instances, repeated ones included -> when the last one was stored.
    promised
        Those of them whose headers give the number of instances in the series.
    arrival_ended
        An arrival was closed.
    """

    series: dict[str, datetime] = field(default_factory=dict)
    promised: set[str] = field(default_factory=set)
    arrival_ended: bool = False


class SpoolIndexer:
    """Records arrivals in the ledger, each file once. Used by one thread.

    Attributes
    ----------
    open
        Arrivals whose files are not all in the ledger, by id.
    past
        Finished arrivals by id, until `forget_past` drops them.
    """

    def __init__(self, ledger: Ledger, triage: Triage, received_dir: Path, read_instance: ReadInstance) -> None:
        self.open: dict[str, OpenArrival] = {}
        self.past: dict[str, PastArrival] = {}
        self._ledger = ledger
        self._triage = triage
        self._received = received_dir
        self._read_instance = read_instance
        self._folders = ArrivalFolders(received_dir)
        self._finished: set[str] | None = None
        self._scanned = False
        self._read_failures: dict[Path, int] = {}
        self._failing = OutageTracker()
        self._changes = Changes()

    def step(self, now: datetime) -> Changes:
        """Index what is in the spool now, at most `MAX_FILES_PER_STEP` files of each arrival."""
        # kept when a step fails: what it has indexed is not found again
        changes = self._changes
        self._find_arrivals()
        for arrival in list(self.open.values()):
            try:
                self._index_arrival(arrival, now, changes)
            except FileNotFoundError:
                if arrival.folder.exists():
                    raise
                log.warning("arrival_folder_removed", arrival=arrival.arrival.arrival_id)
                self._finish(arrival, arrival.closing or Closing(now, ArrivalOutcome.ABORTED, len(arrival.known)))
            except (OperationalError, InterfaceError):
                raise  # the database is not available: nothing else would work either
            except Exception:
                self._log_once(arrival.folder.name)
        self._changes = Changes()
        return changes

    def past_arrival(self, arrival_id: str) -> PastArrival | None:
        """A finished arrival; None when retention has removed it."""
        if arrival_id not in self.past:
            folder = self._received / arrival_id
            try:
                arrival, closing = arrival_in(folder), closing_in(folder)
            except FileNotFoundError:
                return None
            if arrival is None:
                return None
            self.past[arrival_id] = PastArrival(arrival, closing, frozenset())
        return self.past[arrival_id]

    def forget_past(self, needed: Set[str]) -> None:
        """Drop finished arrivals but those `needed`."""
        self.past = {k: v for k, v in self.past.items() if k in needed}

    # arrivals ---------------------------------------------------------------------------------------------------------------------

    def _find_arrivals(self) -> None:
        if self._finished is None:
            self._finished = set(self._ledger.intake.finished_arrivals())
        names = self._folders.names()
        if names is None:
            return
        self._finished.intersection_update(names)
        all_open = True
        for name in names:
            if name in self._finished or name in self.open:
                continue
            try:
                self._open(name)
            except FileNotFoundError:
                continue  # removed since the folder was listed
            except (OperationalError, InterfaceError):
                self._folders.force_listing()
                raise
            except Exception:
                all_open = False
                self._folders.force_listing()
                self._log_once(name)
        # files found from now on were stored since the start, except those of an arrival that could not be opened yet
        self._scanned |= all_open

    def _open(self, name: str) -> None:
        folder = self._received / name
        arrival = arrival_in(folder)
        if arrival is None:
            self._folders.force_listing()
            return
        self._ledger.intake.register(arrival)
        known = {Path(p).name for p in self._ledger.intake.known_paths(arrival.arrival_id)}
        unproven = frozenset[str]() if self._scanned else frozenset(p.name for p in instance_files(folder))
        self.open[name] = OpenArrival(arrival, folder, arrival.opened_at, known, unproven)

    def _log_once(self, name: str) -> None:
        """Log the failure of an arrival once. It is retried in every step and does not stop the others."""
        if self._failing.failed(name):
            log.exception("arrival_not_indexed", arrival=name)

    def _index_arrival(self, arrival: OpenArrival, now: datetime, changes: Changes) -> None:
        was_open = arrival.closing is None
        files = arrival.scan(now)
        changes.arrival_ended |= was_open and arrival.closing is not None
        some = files[:MAX_FILES_PER_STEP]
        left = len(files) - len(some)
        for start in range(0, len(some), BATCH):
            left += self._index_batch(arrival, some[start : start + BATCH], now, changes)
        changes.arrival_ended |= bool(arrival.left and not left)
        arrival.left = left
        if arrival.closing is not None and not left:
            self._finish(arrival, arrival.closing)
        elif not left and (end := interrupted(arrival, now)) is not None:
            log.warning("arrival_interrupted", arrival=arrival.arrival.arrival_id, instances=len(arrival.known))
            arrival.closing, changes.arrival_ended = end, True  # the next step lists the folder for the last time
            write_closing(arrival.folder, end)
        elif not left and (end := abandoned(arrival, now)) is not None:
            # its writer may still run, and learns it from this file; the next step lists the folder for the last time
            write_closing(arrival.folder, end)

    def _finish(self, arrival: OpenArrival, closing: Closing) -> None:
        """All files of a closed arrival are in the ledger: log a summary and stop scanning it."""
        arrival.closing = closing
        arrival_id = arrival.arrival.arrival_id
        lost = closing.stored - len(arrival.known)
        if lost > 0:
            log.error("acknowledged_files_missing", arrival=arrival_id, missing=lost)
            self._ledger.note("arrival.files_missing", arrival_id=arrival_id, missing=lost)
        if arrival.conflicting:
            log.warning(
                "instances_conflicting",
                arrival=arrival_id,
                instances=arrival.conflicting,
                cases=sorted(arrival.contradicted),
                effect="the instances received first are used",
            )
        if arrival.identical and not arrival.added:
            log.info("arrival_repeated", arrival=arrival_id, instances=arrival.identical, cases=sorted(arrival.repeated))
            for case_id in sorted(arrival.repeated):
                self._ledger.note("arrival.repeated", case_id, arrival_id=arrival_id)
        contradiction = self._ledger.single_file_cases.open_conflicting(arrival.arrival, arrival.contradicted)
        if contradiction is not None and (case := self._ledger.cases.get(contradiction)) is not None:
            self._triage.triage_single_file(case)
        self._ledger.intake.finish(arrival_id, closing)
        if self._finished is not None:
            self._finished.add(arrival_id)
        del self.open[arrival_id]
        self.past[arrival_id] = PastArrival(arrival.arrival, closing, frozenset(arrival.series))
        log.info(
            "arrival_indexed",
            arrival=arrival_id,
            outcome=str(closing.outcome),
            new=arrival.added,
            repeated=arrival.identical,
            conflicting=arrival.conflicting,
            unreadable=arrival.unreadable,
        )

    # files ------------------------------------------------------------------------------------------------------------------------

    def _index_batch(self, arrival: OpenArrival, files: Sequence[Path], now: datetime, changes: Changes) -> int:
        """Record each file in the ledger; returns how many are left for the next step."""
        rows: list[IndexedFile] = []
        left = 0
        for path in files:
            try:
                if path.name == ALIGNED_FILE:
                    self._record_aligned(arrival, path, now)
                    continue
                row = self._index(path, now, proven=path.name not in arrival.unproven)
            except FileNotFoundError:
                arrival.scan(now)  # raises where the whole folder is gone
                log.warning("stored_file_removed", arrival=arrival.arrival.arrival_id)
                arrival.known.add(path.name)
            except OSError as error:
                left += self._count_read_failure(arrival, path, error)
            else:
                if isinstance(row, Unreadable):
                    self._record_unreadable(arrival, row)
                else:
                    rows.append(row)
        self._record(arrival, rows, changes)
        return left

    def _on_disk(self, relative: str) -> bool:
        return (self._received / relative).exists()

    def _same_instance(self, first: str, second: str) -> bool:
        try:
            return same_instance(self._received / first, self._received / second)
        except OSError:
            return False

    def _completes(self, first: str, second: str) -> bool:
        try:
            return completes(self._received / first, self._received / second)
        except OSError:
            return False

    def _index(self, path: Path, now: datetime, *, proven: bool) -> IndexedFile | Unreadable:
        try:
            return index_file(path, self._received, self._read_instance, now, proven=proven)
        except OSError:
            raise
        except Exception as error:
            # a defect in corewatch; the error's text is not logged, since it may quote the header
            where = [f"{f.filename}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)]
            log.error("header_not_indexed", arrival=path.parent.name, error=type(error).__name__, where=where)
            return Unreadable(path.relative_to(self._received).as_posix(), _NOT_UNDERSTOOD)

    def _record(self, arrival: OpenArrival, rows: Sequence[IndexedFile], changes: Changes) -> None:
        if not rows:
            return
        try:
            batch = self._ledger.intake.ingest(
                arrival.arrival, rows, on_disk=self._on_disk, same_instance=self._same_instance, completes=self._completes
            )
        except (OperationalError, InterfaceError):
            raise  # the database is not available: the same step is repeated later
        except (StatementError, ValueError, TypeError):
            if len(rows) > 1:
                # one of them is at fault: record each by itself
                for row in rows:
                    self._record(arrival, [row], changes)
            else:
                self._record_unreadable(arrival, Unreadable(rows[0].path, _NOT_STORABLE))
            return
        arrival.added += batch.added + batch.restored
        arrival.repeated |= batch.repeated
        arrival.contradicted |= batch.contradicted
        arrival.identical += batch.identical
        arrival.conflicting += batch.conflicting
        arrival.known.update(Path(row.path).name for row in rows)
        for row in rows:
            series_uid = row.header.series_uid
            arrival.series.add(series_uid)
            changes.series[series_uid] = max(row.stored_at, changes.series.get(series_uid, row.stored_at))
            if row.header.instances_in_series is not None:
                changes.promised.add(series_uid)

    def _record_aligned(self, arrival: OpenArrival, path: Path, now: datetime) -> None:
        sha256, stored_at = digest_of(path, now)
        relative = path.relative_to(self._received).as_posix()
        case_id = self._ledger.single_file_cases.open_aligned(arrival.arrival, relative, sha256, stored_at, on_disk=self._on_disk)
        arrival.known.add(path.name)
        if case_id is None:
            arrival.identical += 1
        else:
            arrival.added += 1
            self._triage.queue_aligned(case_id)

    def _record_unreadable(self, arrival: OpenArrival, file: Unreadable) -> None:
        """The first unreadable file of an arrival opens a case that ends as unreadable; the others are quarantined."""
        case_id = None
        if arrival.unreadable == 0:
            case_id = self._ledger.single_file_cases.open_unreadable(arrival.arrival, file.path, file.detail)
        else:
            self._ledger.single_file_cases.quarantine(arrival.arrival.arrival_id, file.path, "unreadable", file.detail)
        arrival.unreadable += 1
        arrival.known.add(Path(file.path).name)
        if case_id is not None:
            self._triage.reject_single_file(case_id, Reason.UNREADABLE, file.detail)

    def _count_read_failure(self, arrival: OpenArrival, path: Path, error: OSError) -> int:
        """The disk failed: retry in the next steps, then end the file's case as failed. Returns 1 while it is left for a retry."""
        attempts = self._read_failures.get(path, 0) + 1
        self._read_failures[path] = attempts
        if attempts == 1:
            log.error("stored_file_not_readable", arrival=arrival.arrival.arrival_id, error=type(error).__name__, errno=error.errno)
        if attempts < READ_ATTEMPTS:
            return 1
        del self._read_failures[path]
        relative = path.relative_to(self._received).as_posix()
        case_id = self._ledger.single_file_cases.open_unreadable(arrival.arrival, relative, _DISK_FAILED)
        arrival.unreadable += 1
        arrival.known.add(path.name)
        case = None if case_id is None else self._ledger.cases.get(case_id)
        if case is not None:
            self._triage.fail(case, _DISK_FAILED)
        return 0
