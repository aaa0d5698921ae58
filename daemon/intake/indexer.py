"""From the spool to the ledger's rows: every stored file gets one, once."""

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
from daemon.intake.admission import Admission
from daemon.intake.arrivals import ArrivalFolders, OpenArrival, PastArrival, abandoned, arrival_in, closing_in
from daemon.intake.indexing import ReadInstance, Unreadable, content_of, index_file
from daemon.intake.instance_checks import completes, same_instance
from ledger.intake import IndexedFile
from ledger.spool import ALIGNED_FILE, instance_files, write_closing
from ledger.store import Ledger

log = structlog.get_logger()

BATCH = 64
"""Instances per transaction."""

MOST_AT_ONCE = 2048
"""Files of one arrival that a step takes in: after an outage, ten thousand images of one sender must not keep another's waiting."""

READ_ATTEMPTS = 25
"""Steps in which a file could not be read from the disk before it goes to an operator."""

_DISK = "a stored file cannot be read from the disk; check the disk and the permissions of the data folder"
_LEDGER_CANNOT_KEEP = "Its header holds values that the ledger cannot keep."
_NOT_UNDERSTOOD = "Its header could not be understood."


@dataclass(slots=True)
class Changes:
    """What one step has found.

    Attributes
    ----------
    series
        Series that something came for, repeated images included -> when the last of it was stored.
    promised
        Those of them whose headers say how many instances the series has.
    arrival_ended
        An arrival was closed.
    """

    series: dict[str, datetime] = field(default_factory=dict)
    promised: set[str] = field(default_factory=set)
    arrival_ended: bool = False


class Taking:
    """Brings arrivals into the ledger, each file once. Used by one thread.

    Attributes
    ----------
    open
        Arrivals that are not wholly in the ledger, by id.
    past
        Arrivals that were finished, by id, until `forget_past` drops them.
    """

    def __init__(self, ledger: Ledger, admission: Admission, received_dir: Path, read_instance: ReadInstance) -> None:
        self.open: dict[str, OpenArrival] = {}
        self.past: dict[str, PastArrival] = {}
        self._ledger = ledger
        self._admission = admission
        self._received = received_dir
        self._read_instance = read_instance
        self._folders = ArrivalFolders(received_dir)
        self._finished: set[str] | None = None
        self._looked = False
        self._unread: dict[Path, int] = {}
        self._troubled: set[str] = set()
        self._changes = Changes()

    def step(self, now: datetime) -> Changes:
        """Take in what lies in the spool at this moment, of each arrival `MOST_AT_ONCE` files."""
        # kept over a step that fails: what it has found is not found again
        changes = self._changes
        self._find_arrivals()
        for arrival in list(self.open.values()):
            try:
                self._take_in(arrival, now, changes)
            except FileNotFoundError:
                if arrival.folder.exists():
                    raise
                log.warning("an arrival's folder was removed by somebody else", arrival=arrival.arrival.arrival_id)
                self._finish(arrival, arrival.closing or Closing(now, ArrivalOutcome.ABORTED, len(arrival.known)))
            except (OperationalError, InterfaceError):
                raise  # the database is away: nothing else would work either
            except Exception:
                self._say_once(arrival.folder.name)
        self._changes = Changes()
        return changes

    def past_arrival(self, arrival_id: str) -> PastArrival | None:
        """A finished arrival; None where retention has removed it."""
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
                self._folders.look_again()
                raise
            except Exception:
                all_open = False
                self._folders.look_again()
                self._say_once(name)
        # from here on what is found was stored while we looked; not so the files of an arrival that could not be opened yet
        self._looked |= all_open

    def _open(self, name: str) -> None:
        folder = self._received / name
        arrival = arrival_in(folder)
        if arrival is None:
            self._folders.look_again()
            return
        self._ledger.intake.register(arrival)
        known = {Path(p).name for p in self._ledger.intake.known_paths(arrival.arrival_id)}
        unproven = frozenset[str]() if self._looked else frozenset(p.name for p in instance_files(folder))
        self.open[name] = OpenArrival(arrival, folder, arrival.opened_at, known, unproven)

    def _say_once(self, name: str) -> None:
        """An arrival that cannot be taken in is tried again in every step and stops no other; the log hears of it once."""
        if name not in self._troubled:
            self._troubled.add(name)
            log.exception("an arrival cannot be taken in", arrival=name)

    def _take_in(self, arrival: OpenArrival, now: datetime, changes: Changes) -> None:
        was_open = arrival.closing is None
        files = arrival.look(now)
        changes.arrival_ended |= was_open and arrival.closing is not None
        some = files[:MOST_AT_ONCE]
        left = len(files) - len(some)
        for start in range(0, len(some), BATCH):
            left += self._take_batch(arrival, some[start : start + BATCH], now, changes)
        changes.arrival_ended |= bool(arrival.left and not left)
        arrival.left = left
        if arrival.closing is not None and not left:
            self._finish(arrival, arrival.closing)
        elif not left and (end := abandoned(arrival, now)) is not None:
            # its writer may live after all, and learns it from this; the next step lists the folder for the last time
            write_closing(arrival.folder, end)

    def _finish(self, arrival: OpenArrival, closing: Closing) -> None:
        """All files of a closed arrival have a row: say what came, and look at it no longer."""
        arrival.closing = closing
        arrival_id = arrival.arrival.arrival_id
        lost = closing.stored - len(arrival.known)
        if lost > 0:
            log.error("images that were acknowledged are not on the disk", arrival=arrival_id, missing=lost)
            self._ledger.note("arrival.files_missing", arrival_id=arrival_id, missing=lost)
        if arrival.conflicting:
            log.warning(
                "images came again with other contents; the first ones count",
                arrival=arrival_id,
                images=arrival.conflicting,
                cases=sorted(arrival.contradicted),
            )
        if arrival.identical and not arrival.added:
            log.info(
                "everything in this arrival was here before",
                arrival=arrival_id,
                images=arrival.identical,
                cases=sorted(arrival.repeated),
            )
            for case_id in sorted(arrival.repeated):
                self._ledger.note("arrival.repeated", case_id, arrival_id=arrival_id)
        contradiction = self._ledger.singles.take_conflicts(arrival.arrival, arrival.contradicted)
        if contradiction is not None and (case := self._ledger.cases.get(contradiction)) is not None:
            self._admission.end_single(case)
        self._ledger.intake.finish(arrival_id, closing)
        if self._finished is not None:
            self._finished.add(arrival_id)
        del self.open[arrival_id]
        self.past[arrival_id] = PastArrival(arrival.arrival, closing, frozenset(arrival.series))
        log.info(
            "arrival taken in",
            arrival=arrival_id,
            outcome=str(closing.outcome),
            new=arrival.added,
            repeated=arrival.identical,
            conflicting=arrival.conflicting,
            unreadable=arrival.unreadable,
        )

    # files ------------------------------------------------------------------------------------------------------------------------

    def _take_batch(self, arrival: OpenArrival, files: Sequence[Path], now: datetime, changes: Changes) -> int:
        """Give each file a row; returns how many are left for the next step."""
        rows: list[IndexedFile] = []
        left = 0
        for path in files:
            try:
                if path.name == ALIGNED_FILE:
                    self._take_aligned(arrival, path, now)
                    continue
                row = self._index(path, now, proven=path.name not in arrival.unproven)
            except FileNotFoundError:
                arrival.look(now)  # raises where the whole folder is gone
                log.warning("a stored file was removed by somebody else", arrival=arrival.arrival.arrival_id)
                arrival.known.add(path.name)
            except OSError as error:
                left += self._unread_again(arrival, path, error)
            else:
                if isinstance(row, Unreadable):
                    self._take_unreadable(arrival, row)
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
            # a defect of ours: said without the error's words, which could quote the header
            where = [f"{f.filename}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)]
            log.error("a header could not be indexed", arrival=path.parent.name, error=type(error).__name__, where=where)
            return Unreadable(path.relative_to(self._received).as_posix(), _NOT_UNDERSTOOD)

    def _record(self, arrival: OpenArrival, rows: Sequence[IndexedFile], changes: Changes) -> None:
        if not rows:
            return
        try:
            taken = self._ledger.intake.take(
                arrival.arrival, rows, on_disk=self._on_disk, same_image=self._same_instance, mends=self._completes
            )
        except (OperationalError, InterfaceError):
            raise  # the database is away: the same step again, later
        except (StatementError, ValueError, TypeError):
            if len(rows) > 1:
                # one of them is to blame; alone it does not stop the others
                for row in rows:
                    self._record(arrival, [row], changes)
            else:
                self._take_unreadable(arrival, Unreadable(rows[0].path, _LEDGER_CANNOT_KEEP))
            return
        arrival.added += taken.added + taken.restored
        arrival.repeated |= taken.repeated
        arrival.contradicted |= taken.contradicted
        arrival.identical += taken.identical
        arrival.conflicting += taken.conflicting
        arrival.known.update(Path(row.path).name for row in rows)
        for row in rows:
            series_uid = row.header.series_uid
            arrival.series.add(series_uid)
            changes.series[series_uid] = max(row.stored_at, changes.series.get(series_uid, row.stored_at))
            if row.header.instances_in_series is not None:
                changes.promised.add(series_uid)

    def _take_aligned(self, arrival: OpenArrival, path: Path, now: datetime) -> None:
        sha256, stored_at = content_of(path, now)
        relative = path.relative_to(self._received).as_posix()
        case_id = self._ledger.singles.take_aligned(arrival.arrival, relative, sha256, stored_at, on_disk=self._on_disk)
        arrival.known.add(path.name)
        if case_id is None:
            arrival.identical += 1
        else:
            arrival.added += 1
            self._admission.admit_aligned(case_id)

    def _take_unreadable(self, arrival: OpenArrival, file: Unreadable) -> None:
        """The first unreadable file of an arrival opens a case that says so; the others are noted beside it."""
        case_id = None
        if arrival.unreadable == 0:
            case_id = self._ledger.singles.take_unreadable(arrival.arrival, file.path, file.detail)
        else:
            self._ledger.singles.set_aside(arrival.arrival.arrival_id, file.path, "unreadable", file.detail)
        arrival.unreadable += 1
        arrival.known.add(Path(file.path).name)
        if case_id is not None:
            self._admission.reject_single(case_id, Reason.UNREADABLE, file.detail)

    def _unread_again(self, arrival: OpenArrival, path: Path, error: OSError) -> int:
        """The disk failed: try again in the next steps, then put it in front of an operator. Returns 1 while it is left."""
        attempts = self._unread.get(path, 0) + 1
        self._unread[path] = attempts
        if attempts == 1:
            log.error(_DISK, arrival=arrival.arrival.arrival_id, error=type(error).__name__, code=error.errno)
        if attempts < READ_ATTEMPTS:
            return 1
        del self._unread[path]
        relative = path.relative_to(self._received).as_posix()
        case_id = self._ledger.singles.take_unreadable(arrival.arrival, relative, _DISK)
        arrival.unreadable += 1
        arrival.known.add(path.name)
        case = None if case_id is None else self._ledger.cases.get(case_id)
        if case is not None:
            self._admission.fail(case, _DISK)
        return 0
