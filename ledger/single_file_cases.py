"""Cases of single files, and quarantine: aligned heads, unreadable files, and copies that conflict with a known instance."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime

from sqlalchemy import Connection, func, insert, select, update

from corewatch.arrival import Arrival
from corewatch.identity import new_case_id
from corewatch.reasons import Reason
from corewatch.states import WITHOUT_RESULT, CaseState
from ledger.audit_trail import record
from ledger.database import Database
from ledger.tables import cases, instances, quarantined_files

OnDisk = Callable[[str], bool]
"""Whether a file (path relative to the received folder) is on the disk."""


def assume_present(_path: str) -> bool:
    """Assume that every file is on the disk."""
    return True


def quarantine_file(connection: Connection, now: datetime, arrival_id: str, path: str, kind: str, detail: str) -> None:
    """Record a file that belongs to no case, and why; once."""
    if connection.scalar(select(quarantined_files.c.path).where(quarantined_files.c.path == path)) is not None:
        return
    connection.execute(insert(quarantined_files).values(path=path, arrival_id=arrival_id, kind=kind, detail=detail, at=now))
    record(connection, now, "file.set_aside", arrival_id=arrival_id, kind=kind, detail=detail)


def give_up_key(connection: Connection, now: datetime, case_id: str, *, to: str) -> None:
    """Pass the key of a case that ended without a result to the case that replaces it."""
    connection.execute(update(cases).where(cases.c.case_id == case_id).values(case_key=None))
    record(connection, now, "case.key_handed_over", case_id, to=to)


class SingleFileCases:
    """Cases of single files. Used by the daemon alone."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open_aligned(
        self, arrival: Arrival, path: str, sha256: str, stored_at: datetime, *, on_disk: OnDisk = assume_present
    ) -> str | None:
        """Open a case for an already aligned head; returns its id, or None when the same file is a case already.

        As with a series, one that ended without a result and whose file is gone gives its key to the new case.
        """
        now = self._database.clock()
        with self._database.transaction() as connection:
            case_id = new_case_id()
            known = connection.execute(
                select(cases.c.case_id, cases.c.state, cases.c.aligned_path).where(cases.c.case_key == sha256)
            ).one_or_none()
            if known is not None:
                if CaseState(known.state) not in WITHOUT_RESULT or on_disk(known.aligned_path):
                    quarantine_file(connection, now, arrival.arrival_id, path, "identical", "the same aligned head again")
                    record(connection, now, "arrival.repeated", known.case_id, arrival_id=arrival.arrival_id, images=1)
                    return None
                give_up_key(connection, now, known.case_id, to=case_id)
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

    def open_unreadable(self, arrival: Arrival, path: str, detail: str) -> str | None:
        """Open a case for a file that is no DICOM image, so that it ends with a reason.

        Returns
        -------
        The case's id; None when the file was recorded before. Reason and detail are in the case from the start, so that it can be
        ended at any later time.
        """
        return self._open_single(arrival, path, "unreadable", Reason.UNREADABLE, detail)

    def open_conflicting(self, arrival: Arrival, of: Collection[str]) -> str | None:
        """Open a case for an arrival that holds only other contents under known UIDs, so that an operator sees it.

        Parameters
        ----------
        of
            Cases whose images the first ones are.

        Returns
        -------
        The case's id; None when the arrival brought something new, or no such images, or has its case already.
        """
        mine = arrival.arrival_id
        with self._database.reading() as connection:
            if connection.scalar(select(func.count()).select_from(instances).where(instances.c.arrival_id == mine)):
                return None
            images = connection.scalar(
                select(func.count())
                .select_from(quarantined_files)
                .where(
                    quarantined_files.c.arrival_id == mine, quarantined_files.c.kind == "conflict", quarantined_files.c.path != mine
                )
            )
        if not images:
            return None
        detail = f"{images} images" + (f" of case {', '.join(sorted(of))}." if of else ".")
        return self._open_single(arrival, mine, "conflict", Reason.CONFLICTING_COPY, detail)

    def _open_single(self, arrival: Arrival, path: str, kind: str, reason: Reason, detail: str) -> str | None:
        now = self._database.clock()
        with self._database.transaction() as connection:
            if connection.scalar(select(quarantined_files.c.path).where(quarantined_files.c.path == path)) is not None:
                return None
            quarantine_file(connection, now, arrival.arrival_id, path, kind, detail)
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
                    reason=str(reason),
                    detail=detail,
                )
            )
            record(connection, now, "case.receiving", case_id, revision=1)
            return case_id

    def quarantine(self, arrival_id: str, path: str, kind: str, detail: str) -> None:
        """Record a file that belongs to no case, and why."""
        with self._database.transaction() as connection:
            quarantine_file(connection, self._database.clock(), arrival_id, path, kind, detail)
