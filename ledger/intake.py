"""Arrived instances become rows, and series become cases in `receiving`. Used by the daemon alone.

What is sent again:

- The same bytes, and the first file is still there: noted beside the series' newest case.
- The same bytes, and the first file is gone (retention, a lost disk): the row names the new file from then on. A series whose
  newest case has a result or is in work needs nothing else. One whose newest case ended without a result is received again as its
  next revision, which takes over the key of that case, so that its end is seen like that of any other series.
- Other bytes that are the same image, written in another way: as the same bytes, while the first file is there.
- The whole of an image whose first file is cut short: takes its place, as where the first file is gone.
- Another image under the same SOP Instance UID: set aside; the first ones count. The audit trail of the series' newest case says
  so, and an arrival with nothing else becomes a case for an operator.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, insert, select, update

from corewatch.arrival import Arrival, Closing
from corewatch.identity import new_case_id
from corewatch.instance import Instance
from corewatch.states import WITHOUT_RESULT, CaseState
from ledger.audit_trail import record
from ledger.database import Database
from ledger.single_file_cases import OnDisk, assume_present, give_up_key, quarantine_file
from ledger.tables import arrivals, cases, instances, quarantined_files, series_arrivals


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """One instance of the spool, its header read. `path` is relative to the received folder, `sha256` that of the file."""

    path: str
    sha256: str
    stored_at: datetime
    header: Instance


@dataclass(frozen=True, slots=True)
class IngestReport:
    """Outcome of a batch of files.

    Attributes
    ----------
    added
        New instances, now in a case.
    restored
        Known instances whose files were missing and that are received again.
    identical, conflicting
        The same SOP Instance UID with the same bytes, or with other bytes.
    opened
        Ids of the cases that the batch opened.
    repeated, contradicted
        Newest cases of the series that the identical and the conflicting ones belong to.
    """

    added: int
    restored: int
    identical: int
    conflicting: int
    opened: tuple[str, ...]
    repeated: frozenset[str]
    contradicted: frozenset[str]


@dataclass(frozen=True, slots=True)
class ReceivingSeries:
    """A case in `receiving` with all that decides whether it is complete.

    `new_instances` are those of this revision alone; `instances` includes those of earlier revisions of the series.
    """

    case_id: str
    series_uid: str
    revision: int
    last_stored_at: datetime
    instances: tuple[Instance, ...]
    new_instances: int
    arrivals: tuple[str, ...]


SameInstance = Callable[[str, str], bool]
"""Whether two files (paths relative to the received folder) hold the same instance although their bytes differ."""


def always_false(_first: str, _second: str) -> bool:
    """Treat different bytes as different instances."""
    return False


class Intake:
    """From spool to ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, arrival: Arrival) -> None:
        """Know of an arrival; does nothing when it is known."""
        with self._database.transaction() as connection:
            if connection.scalar(select(arrivals.c.arrival_id).where(arrivals.c.arrival_id == arrival.arrival_id)) is None:
                connection.execute(
                    insert(arrivals).values(
                        arrival_id=arrival.arrival_id,
                        source=str(arrival.source),
                        peer_ae_title=arrival.peer_ae_title,
                        peer_host=arrival.peer_host,
                        email=list(arrival.email),
                        opened_at=arrival.opened_at,
                        finished=False,
                    )
                )
                record(
                    connection,
                    self._database.clock(),
                    "arrival.opened",
                    arrival_id=arrival.arrival_id,
                    source=str(arrival.source),
                    peer_ae_title=arrival.peer_ae_title,
                    peer_host=arrival.peer_host,
                )

    def finished_arrivals(self) -> frozenset[str]:
        """Arrivals that are closed and wholly in the ledger."""
        with self._database.reading() as connection:
            return frozenset(connection.scalars(select(arrivals.c.arrival_id).where(arrivals.c.finished)))

    def finish(self, arrival_id: str, closing: Closing) -> None:
        """The arrival is closed and all its files are in the ledger."""
        with self._database.transaction() as connection:
            connection.execute(
                update(arrivals)
                .where(arrivals.c.arrival_id == arrival_id)
                .values(closed_at=closing.closed_at, outcome=str(closing.outcome), finished=True)
            )
            record(
                connection,
                self._database.clock(),
                "arrival.closed",
                arrival_id=arrival_id,
                outcome=str(closing.outcome),
                stored=closing.stored,
            )

    def known_paths(self, arrival_id: str) -> frozenset[str]:
        """Paths (relative to the received folder) of this arrival's files that have a row already."""
        with self._database.reading() as connection:
            known = set(connection.scalars(select(instances.c.path).where(instances.c.arrival_id == arrival_id)))
            known.update(connection.scalars(select(quarantined_files.c.path).where(quarantined_files.c.arrival_id == arrival_id)))
            known.update(
                connection.scalars(
                    select(cases.c.aligned_path).where(cases.c.aligned_path.startswith(f"{arrival_id}/", autoescape=True))
                )
            )
        return frozenset(known)

    def ingest(
        self,
        arrival: Arrival,
        files: Sequence[IndexedFile],
        *,
        on_disk: OnDisk = assume_present,
        same_instance: SameInstance = always_false,
        completes: SameInstance = always_false,
    ) -> IngestReport:
        """Record a batch of instances of one arrival, in one transaction.

        A series without a case in `receiving` gets one: revision 1, or, when the series was here before, the next revision.

        Parameters
        ----------
        completes
            Whether the second file is the complete instance of which the first is a truncated copy.
        """
        new: dict[str, list[IndexedFile]] = defaultdict(list)
        again: dict[str, list[IndexedFile]] = defaultdict(list)
        repeated: dict[str, int] = defaultdict(int)
        conflicting: dict[str, int] = defaultdict(int)
        restored = 0
        opened: list[str] = []
        with self._database.transaction() as connection:
            for file in files:
                known = self._known(connection, file, new.get(file.header.series_uid, []))
                if known is None:
                    new[file.header.series_uid].append(file)
                elif known.sha256 != file.sha256 and on_disk(known.path) and same_instance(known.path, file.path):
                    repeated[file.header.series_uid] += 1
                    detail = "the same image again, written in another way"
                    quarantine_file(connection, self._database.clock(), arrival.arrival_id, file.path, "identical", detail)
                elif known.sha256 != file.sha256 and on_disk(known.path) and completes(known.path, file.path):
                    detail = "cut short; the whole image came later"
                    first_arrival = known.path.partition("/")[0]
                    quarantine_file(connection, self._database.clock(), first_arrival, known.path, "cut_short", detail)
                    if known.of_batch is None:
                        self._point_to(connection, arrival, file)
                        again[known.series_uid].append(file)
                    else:
                        new[known.series_uid] = [file if f is known.of_batch else f for f in new[known.series_uid]]
                elif known.sha256 != file.sha256:
                    conflicting[known.series_uid] += 1
                    detail = "other bytes under a SOP Instance UID that is known"
                    quarantine_file(connection, self._database.clock(), arrival.arrival_id, file.path, "conflict", detail)
                elif known.path != file.path and not on_disk(known.path):
                    self._point_to(connection, arrival, file)
                    again[file.header.series_uid].append(file)
                else:
                    repeated[file.header.series_uid] += 1
                    quarantine_file(
                        connection, self._database.clock(), arrival.arrival_id, file.path, "identical", "the same bytes again"
                    )
            for series_uid in sorted(new.keys() | again.keys()):
                with_rows, without_rows = again.get(series_uid, []), new.get(series_uid, [])
                if without_rows or self._needs_analysis(connection, series_uid):
                    opened += self._receive(connection, arrival, series_uid, without_rows, with_rows)
                    restored += len(with_rows)
                else:
                    repeated[series_uid] += len(with_rows)
            for series_uid in repeated:
                # a sender that tries again after an interruption may have nothing new, and still ends the wait for it
                if (newest := self._newest(connection, series_uid)) is not None and newest[1] is CaseState.RECEIVING:
                    self._link(connection, series_uid, arrival.arrival_id)
            same, other = self._newest_of(connection, repeated), self._newest_of(connection, conflicting)
            for case_id, images in other.items():
                facts = {"arrival_id": arrival.arrival_id, "images": images}
                record(connection, self._database.clock(), "series.conflicting_copy", case_id, **facts)
        return IngestReport(
            added=sum(len(v) for v in new.values()),
            restored=restored,
            identical=sum(repeated.values()),
            conflicting=sum(conflicting.values()),
            opened=tuple(opened),
            repeated=frozenset(same),
            contradicted=frozenset(other),
        )

    def hand_over_key(self, key: str, case_id: str) -> str | None:
        """Make `key` free for a revision of the same images: a case that ended without a result gives it up.

        Returns
        -------
        Another case that keeps it, because it is in work or has a result; None when the key is free.
        """
        with self._database.transaction() as connection:
            holder = connection.execute(
                select(cases.c.case_id, cases.c.state).where(cases.c.case_key == key, cases.c.case_id != case_id)
            ).one_or_none()
            if holder is None:
                return None
            if CaseState(holder.state) not in WITHOUT_RESULT:
                return str(holder.case_id)
            give_up_key(connection, self._database.clock(), holder.case_id, to=case_id)
            return None

    def _known(self, connection: Connection, file: IndexedFile, batch: Sequence[IndexedFile]) -> _KnownFile | None:
        """The first file of the instance, possibly in the same batch."""
        uid = file.header.sop_instance_uid
        row = connection.execute(
            select(instances.c.series_uid, instances.c.path, instances.c.sha256).where(instances.c.sop_instance_uid == uid)
        ).one_or_none()
        if row is not None:
            return _KnownFile(row.series_uid, row.path, row.sha256)
        # a file of the same batch is on the disk: it was read a moment ago
        same = (f for f in batch if f.header.sop_instance_uid == uid)
        return next((_KnownFile(f.header.series_uid, f.path, f.sha256, f) for f in same), None)

    def _point_to(self, connection: Connection, arrival: Arrival, file: IndexedFile) -> None:
        connection.execute(
            update(instances)
            .where(instances.c.sop_instance_uid == file.header.sop_instance_uid)
            .values(
                path=file.path,
                sha256=file.sha256,
                arrival_id=arrival.arrival_id,
                stored_at=file.stored_at,
                header=file.header.to_json(),  # retention may have cleared it
            )
        )

    def _newest(self, connection: Connection, series_uid: str) -> tuple[str, CaseState] | None:
        """Id and state of the series' newest revision that counts."""
        row = connection.execute(
            select(cases.c.case_id, cases.c.state)
            .where(cases.c.series_uid == series_uid, cases.c.state != CaseState.SUPERSEDED)
            .order_by(cases.c.revision.desc())
            .limit(1)
        ).one_or_none()
        return None if row is None else (row.case_id, CaseState(row.state))

    def _newest_of(self, connection: Connection, images: Mapping[str, int]) -> dict[str, int]:
        """Images by series -> images by the series' newest case."""
        return {case[0]: count for uid, count in images.items() if (case := self._newest(connection, uid)) is not None}

    def _needs_analysis(self, connection: Connection, series_uid: str) -> bool:
        newest = self._newest(connection, series_uid)
        return newest is None or newest[1] in WITHOUT_RESULT | {CaseState.RECEIVING}

    def _receive(
        self, connection: Connection, arrival: Arrival, series_uid: str, new: list[IndexedFile], known: list[IndexedFile]
    ) -> list[str]:
        """Bring files into the series' case in `receiving`, which is opened where there is none; those without a row get one."""
        opened: list[str] = []
        now = self._database.clock()
        files = [*new, *known]
        last = max(f.stored_at for f in files)
        case = connection.execute(
            select(cases.c.case_id, cases.c.revision, cases.c.email, cases.c.last_stored_at).where(
                cases.c.series_uid == series_uid, cases.c.state == CaseState.RECEIVING
            )
        ).one_or_none()
        if case is None:
            newest = connection.scalar(select(func.max(cases.c.revision)).where(cases.c.series_uid == series_uid)) or 0
            case_id, revision = new_case_id(), newest + 1
            opened.append(case_id)
            connection.execute(
                insert(cases).values(
                    case_id=case_id,
                    study_uid=files[0].header.study_uid,
                    series_uid=series_uid,
                    revision=revision,
                    state=CaseState.RECEIVING,
                    email=list(arrival.email),
                    created_at=min(f.stored_at for f in files),
                    last_stored_at=last,
                    updated_at=now,
                    attempts=0,
                    files_removed=False,
                    detail="",
                    scanner=files[0].header.scanner or None,
                    accession_hash=files[0].header.accession_hash or None,
                    patient_id_hash=files[0].header.patient_id_hash or None,
                )
            )
            record(connection, now, "case.receiving", case_id, revision=revision)
        else:
            revision = case.revision
            merged = list(dict.fromkeys([*case.email, *arrival.email]))
            connection.execute(
                update(cases)
                .where(cases.c.case_id == case.case_id)
                .values(last_stored_at=max(last, case.last_stored_at), updated_at=now, email=merged)
            )
        rows = [
            {
                "sop_instance_uid": f.header.sop_instance_uid,
                "series_uid": series_uid,
                "first_revision": revision,
                "arrival_id": arrival.arrival_id,
                "path": f.path,
                "sha256": f.sha256,
                "stored_at": f.stored_at,
                "header": f.header.to_json(),
            }
            for f in new
        ]
        if rows:
            connection.execute(insert(instances), rows)
        self._link(connection, series_uid, arrival.arrival_id)
        return opened

    def _link(self, connection: Connection, series_uid: str, arrival_id: str) -> None:
        link = (series_arrivals.c.series_uid == series_uid) & (series_arrivals.c.arrival_id == arrival_id)
        if connection.scalar(select(series_arrivals.c.arrival_id).where(link)) is None:
            connection.execute(insert(series_arrivals).values(series_uid=series_uid, arrival_id=arrival_id))

    def receiving(self) -> list[ReceivingSeries]:
        """All series that are still arriving, oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(
                select(cases.c.case_id, cases.c.series_uid, cases.c.revision, cases.c.last_stored_at)
                .where(cases.c.state == CaseState.RECEIVING, cases.c.series_uid.is_not(None))
                .order_by(cases.c.created_at)
            ).all()
            return [self._series(connection, *row) for row in rows]

    def _series(self, connection: Connection, case_id: str, series_uid: str, revision: int, last: datetime) -> ReceivingSeries:
        rows = connection.execute(
            select(instances.c.header, instances.c.first_revision).where(instances.c.series_uid == series_uid)
        ).all()
        links = connection.scalars(select(series_arrivals.c.arrival_id).where(series_arrivals.c.series_uid == series_uid))
        return ReceivingSeries(
            case_id=case_id,
            series_uid=series_uid,
            revision=revision,
            last_stored_at=last,
            instances=tuple(Instance.from_json(r.header) for r in rows),
            new_instances=sum(r.first_revision == revision for r in rows),
            arrivals=tuple(links),
        )


@dataclass(frozen=True, slots=True)
class _KnownFile:
    series_uid: str
    path: str
    sha256: str
    of_batch: IndexedFile | None = None
