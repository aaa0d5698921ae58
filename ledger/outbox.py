"""Work that is committed and waits to be handed to the broker."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from corewatch.messages import Work
from corewatch.states import Stage
from ledger.database import Database
from ledger.tables import outbox


def post(connection: Connection, at: datetime, work: Work, not_before: datetime | None = None) -> None:
    """Put `work` into the outbox; the daemon publishes it after this transaction is committed."""
    connection.execute(
        insert(outbox).values(
            stage=str(work.stage),
            case_id=work.case_id,
            destination=work.destination,
            created_at=at,
            not_before=not_before or at,
        )
    )


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """One row of the outbox."""

    id: int
    work: Work


class Outbox:
    """What the daemon publishes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def due(self, now: datetime, limit: int = 100) -> list[OutboxEntry]:
        """Work that may be published now, oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(
                select(outbox).where(outbox.c.published_at.is_(None), outbox.c.not_before <= now).order_by(outbox.c.id).limit(limit)
            )
            return [OutboxEntry(row.id, Work(Stage(row.stage), row.case_id, row.destination)) for row in rows]

    def mark_published(self, posted: OutboxEntry) -> None:
        """The broker took it. A crash before this line publishes it twice, which every task bears."""
        with self._database.transaction() as connection:
            connection.execute(update(outbox).where(outbox.c.id == posted.id).values(published_at=self._database.clock()))

    def purge(self, before: datetime) -> int:
        """Forget published rows that are older; returns how many."""
        with self._database.transaction() as connection:
            return connection.execute(delete(outbox).where(outbox.c.published_at < before)).rowcount
