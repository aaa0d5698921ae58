"""Snapshot of the ledger for a backup: a SQLite file with every row as of one moment, made while programs run, and its restoration.

The file is the same for SQLite and PostgreSQL, so a backup of one can be restored into the other.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Table, func, insert, select
from sqlalchemy.engine import URL, make_url

from corewatch.errors import ConfigurationError
from ledger import tables
from ledger.database import Database

_BATCH: Final = 1000

_NOT_COPIED: Final = frozenset({tables.schema.name})
"""Tables that a migration fills."""


def write_snapshot(url: str, file: Path) -> None:
    """Write a snapshot of the ledger to a new SQLite file.

    Parameters
    ----------
    url
        SQLAlchemy URL of the ledger.

    Raises
    ------
    ConfigurationError
        There is no ledger, or one in PostgreSQL has the layout of another version of corewatch.
    sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, OSError
        The database cannot be read, or the file not be written.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        _copy_sqlite(Path(str(parsed.database)), file)
        return
    source = Database(url, prepare=False)
    try:
        status = source.schema_status()
        if status.revision is None:
            raise ConfigurationError("database.url: the database holds no ledger", "correct database.url")
        if not status.is_current or status.differences:
            raise ConfigurationError(
                f"database.url: the ledger has the layout of another version (layout {status.revision})",
                "back it up with the version of corewatch that wrote it, or with pg_dump",
            )
        target = Database(f"sqlite:///{file}")
        try:
            # all rows as of one moment, however long the copy takes; writers do not wait
            view = source.engine.connect().execution_options(isolation_level="REPEATABLE READ")
            with view as reading, target.transaction() as writing:
                _copy_rows(reading, writing)
        finally:
            target.close()  # the last connection moves everything from SQLite's log into the file
    finally:
        source.close()


def restore_snapshot(file: Path, url: str) -> int:
    """Restore a snapshot into a database that holds no ledger; returns the number of cases.

    Parameters
    ----------
    file
        The snapshot. It is migrated if an earlier version wrote it, so give a copy.

    Raises
    ------
    LedgerNotUsable
        A later version of corewatch wrote the snapshot, or it is damaged.
    ConfigurationError
        The database already holds a ledger.
    sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, OSError
        The database cannot be written.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        refuse_existing_ledger(url)
        target_file = Path(str(parsed.database))
        target_file.parent.mkdir(parents=True, exist_ok=True)
        _copy_sqlite(file, target_file)
    else:
        _load_rows(file, parsed)
    restored = Database(url)
    try:
        with restored.reading() as connection:
            return connection.scalar(select(func.count()).select_from(tables.cases)) or 0
    finally:
        restored.close()


def refuse_existing_ledger(url: str) -> None:
    """Raise `ConfigurationError` where the database already holds a ledger with rows; changes nothing."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        file = Path(str(parsed.database))
        if file.exists():
            raise ConfigurationError(f"{file} exists already", "restore into an empty data folder, or move the present one away")
        return
    database = Database(url, prepare=False)
    try:
        if database.schema_status().revision is None:
            return
        with database.reading() as connection:
            _refuse_rows(connection)
    finally:
        database.close()


def _copy_sqlite(source: Path, target: Path) -> None:
    if not source.is_file():
        raise ConfigurationError(f"there is no ledger {source}", "correct data_dir or database.url")
    uri = f"{source.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as reading, closing(sqlite3.connect(target)) as writing:
        reading.backup(writing)  # SQLite's own: consistent, and no writer waits


def _load_rows(file: Path, url: URL) -> None:
    source = Database(f"sqlite:///{file}")  # migrates and verifies it
    target = Database(url.render_as_string(hide_password=False))
    try:
        with source.reading() as reading, target.transaction() as writing:
            _refuse_rows(writing)
            _copy_rows(reading, writing)
            for table in tables.metadata.sorted_tables:
                _continue_numbers(writing, table)
    finally:
        target.close()
        source.close()


def _refuse_rows(connection: Connection) -> None:
    for table in _copied():
        if connection.execute(select(table).limit(1)).first() is not None:
            raise ConfigurationError(
                f"database.url: the database already holds a ledger (table {table.name} has rows)", "give an empty database"
            )


def _copied() -> list[Table]:
    """The tables, those that others refer to first."""
    return [table for table in tables.metadata.sorted_tables if table.name not in _NOT_COPIED]


def _copy_rows(reading: Connection, writing: Connection) -> None:
    for table in _copied():
        rows = reading.execution_options(stream_results=True).execute(select(table))
        for batch in rows.mappings().partitions(_BATCH):
            writing.execute(insert(table), [dict(row) for row in batch])


def _continue_numbers(connection: Connection, table: Table) -> None:
    """Let PostgreSQL number new rows after those that were copied."""
    column = table.autoincrement_column
    if column is None:
        return
    sequence = func.pg_get_serial_sequence(table.name, column.name)
    if connection.scalar(select(sequence)) is not None:
        connection.execute(select(func.setval(sequence, select(func.max(column)).scalar_subquery())))
