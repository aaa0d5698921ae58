"""Arrived instances become rows, and series become cases in `receiving`. Used by the daemon alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, insert, select, update

from corewatch.arrival import Arrival, Closing
from corewatch.identity import new_case_id
from corewatch.instance import Instance
from corewatch.states import CaseState
from ledger.database import Database, record
from ledger.tables import arrivals, cases, instances, series_arrivals, set_aside


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """One instance of the spool, its header read. `path` is relative to the received folder, `sha256` that of the file."""

    path: str
    sha256: str
    stored_at: datetime
    header: Instance


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a batch of files.

    Attributes
    ----------
    added
        New instances, now in a case.
    identical, conflicting
        Files set aside: the same SOP Instance UID with the same bytes, or with other bytes.
    opened
        Ids of the cases that the batch opened.
    """

    added: int
    identical: int
    conflicting: int
    opened: tuple[str, ...]


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
            known.update(connection.scalars(select(set_aside.c.path).where(set_aside.c.arrival_id == arrival_id)))
            known.update(
                connection.scalars(
                    select(cases.c.aligned_path).where(cases.c.aligned_path.startswith(f"{arrival_id}/", autoescape=True))
                )
            )
        return frozenset(known)

    def take(self, arrival: Arrival, files: Sequence[IndexedFile]) -> Taken:
        """Record a batch of instances of one arrival, in one transaction.

        A series without a case in `receiving` gets one: revision 1, or, when the series was here before, the next revision.
        """
        by_series: dict[str, list[IndexedFile]] = defaultdict(list)
        identical = conflicting = 0
        opened: list[str] = []
        with self._database.transaction() as connection:
            for file in files:
                known = connection.execute(
                    select(instances.c.sha256).where(instances.c.sop_instance_uid == file.header.sop_instance_uid)
                ).scalar_one_or_none()
                queued = next((f for f in by_series[file.header.series_uid] if _same_uid(f, file)), None)
                before = known or (None if queued is None else queued.sha256)
                if before is None:
                    by_series[file.header.series_uid].append(file)
                    continue
                same = before == file.sha256
                identical, conflicting = identical + same, conflicting + (not same)
                detail = "the same bytes again" if same else "other bytes under a SOP Instance UID that is known"
                self._set_aside(connection, arrival.arrival_id, file.path, "identical" if same else "conflict", detail)
            for series_uid, new in by_series.items():
                if new:
                    opened += self._add(connection, arrival, series_uid, new)
        added = sum(len(v) for v in by_series.values())
        return Taken(added=added, identical=identical, conflicting=conflicting, opened=tuple(opened))

    def _add(self, connection: Connection, arrival: Arrival, series_uid: str, files: list[IndexedFile]) -> list[str]:
        opened: list[str] = []
        now = self._database.clock()
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
        connection.execute(
            insert(instances),
            [
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
                for f in files
            ],
        )
        link = (series_arrivals.c.series_uid == series_uid) & (series_arrivals.c.arrival_id == arrival.arrival_id)
        if connection.scalar(select(series_arrivals.c.arrival_id).where(link)) is None:
            connection.execute(insert(series_arrivals).values(series_uid=series_uid, arrival_id=arrival.arrival_id))
        return opened

    def take_aligned(self, arrival: Arrival, path: str, sha256: str, stored_at: datetime) -> str | None:
        """Open a case for an already aligned head; returns its id, or None when the same file was analysed before."""
        now = self._database.clock()
        with self._database.transaction() as connection:
            if connection.scalar(select(cases.c.case_id).where(cases.c.case_key == sha256)) is not None:
                self._set_aside(connection, arrival.arrival_id, path, "identical", "the same aligned head again")
                return None
            case_id = new_case_id()
            connection.execute(
                insert(cases).values(
                    case_id=case_id,
                    case_key=sha256,
                    revision=1,
                    aligned_path=path,
                    state=CaseState.RECEIVING,
                    email=list(arrival.email),
                    created_at=stored_at,
                    last_stored_at=stored_at,
                    updated_at=now,
                    attempts=0,
                    files_removed=False,
                    detail="",
                )
            )
            record(connection, now, "case.receiving", case_id, revision=1)
            return case_id

    def take_unreadable(self, arrival: Arrival, path: str, detail: str) -> str:
        """Open a case for a file that is no DICOM image, so that it ends with a reason; returns the case's id."""
        now = self._database.clock()
        with self._database.transaction() as connection:
            self._set_aside(connection, arrival.arrival_id, path, "unreadable", detail)
            case_id = new_case_id()
            connection.execute(
                insert(cases).values(
                    case_id=case_id,
                    revision=1,
                    state=CaseState.RECEIVING,
                    email=list(arrival.email),
                    created_at=now,
                    last_stored_at=now,
                    updated_at=now,
                    attempts=0,
                    files_removed=False,
                    detail="",
                )
            )
            record(connection, now, "case.receiving", case_id, revision=1)
            return case_id

    def set_aside(self, arrival_id: str, path: str, kind: str, detail: str) -> None:
        """Note a file that belongs to no case, and why."""
        with self._database.transaction() as connection:
            self._set_aside(connection, arrival_id, path, kind, detail)

    def _set_aside(self, connection: Connection, arrival_id: str, path: str, kind: str, detail: str) -> None:
        if connection.scalar(select(set_aside.c.path).where(set_aside.c.path == path)) is not None:
            return
        now = self._database.clock()
        connection.execute(insert(set_aside).values(path=path, arrival_id=arrival_id, kind=kind, detail=detail, at=now))
        record(connection, now, "file.set_aside", arrival_id=arrival_id, kind=kind, detail=detail)

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


def _same_uid(a: IndexedFile, b: IndexedFile) -> bool:
    return a.header.sop_instance_uid == b.header.sop_instance_uid
