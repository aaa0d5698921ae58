"""Stored objects: which objects of a case an archive has accepted, so that a delivery that broke off goes on where it was."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, delete, insert, select

from corewatch.stored_objects import StoredObject
from ledger.database import Database
from ledger.tables import stored_objects


class StoredObjects:
    """Satisfies `corewatch.stored_objects.StoredObjectRecord`. Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def known(self, case_id: str, destination: str) -> Mapping[str, StoredObject]:
        """What the archive has accepted since the delivery was planned, by SOP Instance UID."""
        with self._database.reading() as connection:
            rows = connection.execute(
                select(stored_objects).where(stored_objects.c.case_id == case_id, stored_objects.c.destination == destination)
            )
            return {row.sop_instance_uid: StoredObject(row.sha256, row.status) for row in rows}

    def add(self, case_id: str, destination: str, sop_instance_uid: str, stored: StoredObject) -> None:
        """Record that the archive has accepted an object."""
        now = self._database.clock()
        with self._database.transaction() as connection:
            forget(connection, case_id, destination, [sop_instance_uid])
            connection.execute(
                insert(stored_objects).values(
                    case_id=case_id,
                    destination=destination,
                    sop_instance_uid=sop_instance_uid,
                    sha256=stored.sha256,
                    status=stored.status,
                    stored_at=now,
                )
            )


def forget(connection: Connection, case_id: str, destination: str, only: Collection[str] | None = None) -> None:
    """Let objects be sent again: all of a delivery that starts again, or those that the archive has not kept."""
    mine = (stored_objects.c.case_id == case_id) & (stored_objects.c.destination == destination)
    if only is not None:
        mine &= stored_objects.c.sop_instance_uid.in_(list(only))
    connection.execute(delete(stored_objects).where(mine))
