"""Audit trail: append-only lines, exported in order, and read once in order by each program that forwards them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, func, insert, select, update

from ledger.database import Database
from ledger.tables import arrivals, audit, audit_cursors, cases, instances, series_arrivals

_SETTLED: Final = timedelta(seconds=60)
"""Once a line is older than this, a missing number before it belongs to a transaction that was rolled back."""

_BATCH: Final = 500


def record(connection: Connection, at: datetime, event: str, case_id: str | None = None, **detail: Any) -> None:
    """Append one line to the audit trail. `detail` holds JSON types, free of patient data."""
    connection.execute(insert(audit).values(at=at, case_id=case_id, event=event, detail=detail))


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One line of the trail."""

    id: int
    at: datetime
    case_id: str | None
    event: str
    detail: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """As it is exported."""
        return {"id": self.id, "at": self.at.isoformat(), "case": self.case_id, "event": self.event, **self.detail}


@dataclass(frozen=True, slots=True)
class CaseOrigin:
    """Study of a line's case, its senders (AE title, host), and one of its instances."""

    study_uid: str | None
    senders: tuple[tuple[str, str], ...]
    image: str | None = None
    """Path relative to the received folder."""


class AuditTrail:
    """Reading the trail."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def lines(self, *, after: int = 0, since: datetime | None = None, until: datetime | None = None) -> Iterator[AuditLine]:
        """Lines in order, a batch at a time, so that years of them need little memory."""
        while True:
            query = select(audit).where(audit.c.id > after).order_by(audit.c.id).limit(_BATCH)
            if since is not None:
                query = query.where(audit.c.at >= since)
            if until is not None:
                query = query.where(audit.c.at < until)
            with self._database.reading() as connection:
                rows = connection.execute(query).all()
            for row in rows:
                yield AuditLine(row.id, row.at, row.case_id, row.event, row.detail)
            if len(rows) < _BATCH:
                return
            after = rows[-1].id

    def unread(self, reader: str, limit: int) -> list[AuditLine]:
        """The next lines for a reader. One that begins starts with what is written from then on.

        A transaction of another program may still commit a line with a lower number: where a number is missing, the lines after it
        wait until they are old enough.
        """
        now = self._database.clock()
        with self._database.transaction() as connection:
            last = connection.scalar(select(audit_cursors.c.last_id).where(audit_cursors.c.reader == reader))
            if last is None:
                last = connection.scalar(select(func.max(audit.c.id))) or 0
                connection.execute(insert(audit_cursors).values(reader=reader, last_id=last))
                return []
            rows = connection.execute(select(audit).where(audit.c.id > last).order_by(audit.c.id).limit(limit)).all()
        found: list[AuditLine] = []
        for row in rows:
            if row.id != last + 1 and now - row.at < _SETTLED:
                break
            found.append(AuditLine(row.id, row.at, row.case_id, row.event, row.detail))
            last = row.id
        return found

    def read(self, reader: str, last_id: int) -> None:
        """Mark every line up to this one as read."""
        with self._database.transaction() as connection:
            connection.execute(
                update(audit_cursors).where(audit_cursors.c.reader == reader, audit_cursors.c.last_id < last_id).values(
                    last_id=last_id
                )
            )  # fmt: skip

    def origin(self, case_id: str) -> CaseOrigin:
        """Study and senders of a case."""
        with self._database.reading() as connection:
            case = connection.execute(select(cases.c.study_uid, cases.c.series_uid).where(cases.c.case_id == case_id)).one_or_none()
            if case is None:
                return CaseOrigin(None, ())
            rows = connection.execute(
                select(arrivals.c.peer_ae_title, arrivals.c.peer_host)
                .join(series_arrivals, series_arrivals.c.arrival_id == arrivals.c.arrival_id)
                .where(series_arrivals.c.series_uid == case.series_uid)
                .distinct()
            ).all()
            one = select(instances.c.path).where(instances.c.series_uid == case.series_uid).order_by(instances.c.sop_instance_uid)
            image = connection.execute(one.limit(1)).scalar_one_or_none()
        return CaseOrigin(case.study_uid, tuple(sorted((row.peer_ae_title, row.peer_host) for row in rows)), image)
