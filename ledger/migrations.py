"""A ledger of an earlier version is brought up to the present layout when it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Column, Connection, inspect, update

from ledger import tables

OLDEST: Final = 1
"""The first layout that was released."""

ADDED_COLUMNS: Final[Mapping[int, tuple[Column[object], ...]]] = {
    2: (tables.deliveries.c.holder, tables.deliveries.c.digest),
}
"""Layout -> the columns that it brought to tables of an earlier one. Each is nullable or has a server default, for the rows that
are there already. New tables need no word here: the missing ones are made."""


def upgrade(connection: Connection, version: int) -> None:
    """Bring the tables of layout `version` up to `tables.SCHEMA_VERSION`, within the caller's transaction.

    An earlier version of corewatch refuses the ledger from then on; that is meant: it would not know what it leaves out.
    """
    operations = Operations(MigrationContext.configure(connection))
    for step in range(version + 1, tables.SCHEMA_VERSION + 1):
        for column in ADDED_COLUMNS.get(step, ()):
            table = column.table.name
            if column.name not in {there["name"] for there in inspect(connection).get_columns(table)}:
                operations.add_column(table, column._copy())
    tables.metadata.create_all(connection)
    connection.execute(update(tables.schema).values(version=tables.SCHEMA_VERSION))
