"""Connection to the ledger's database, and its transactions."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, create_engine, event, func, select
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import DatabaseError, InterfaceError, OperationalError

from corewatch.clock import Clock, utc_now
from corewatch.errors import ConfigurationError
from ledger import schema
from ledger.database_url import database_url_problem

QUEUE_LEASE_S = 120.0
"""Seconds after which work that no worker has claimed is posted again (the broker may have been wiped)."""

BUSY_TIMEOUT_S = 30.0
"""How long a writer waits for another one (SQLite has one writer at a time)."""


_SCHEMA_LOCK = 0x636F7265
"""Number of the advisory lock under which one program migrates the tables in PostgreSQL."""


class Database:
    """An engine with the settings that the ledger relies on, and a clock.

    Parameters
    ----------
    url
        SQLAlchemy URL: `sqlite:///path` or `postgresql+pg8000://...`.
    clock
        The present moment; written into the rows.
    lease_s
        Seconds after which posted work that nobody has taken up is overdue.
    prepare
        Whether to migrate and verify the tables; without, `schema_status` only looks at them.

    Raises
    ------
    LedgerNotUsable
        The tables were written by a later version of corewatch, or do not match this one.
    ConfigurationError
        The URL names a database or a driver that corewatch does not use.
    """

    def __init__(self, url: str, clock: Clock = utc_now, lease_s: float = QUEUE_LEASE_S, *, prepare: bool = True) -> None:
        self.clock = clock
        self.queue_lease = timedelta(seconds=lease_s)
        if not url.startswith("sqlite:") and (wrong := database_url_problem(url)) is not None:
            raise ConfigurationError(f"database.url: {wrong[0]}", wrong[1])
        parsed = make_url(url)
        # an error's text goes into the log, and parameters hold UIDs and headers: hide_parameters keeps them out of it
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        if self.is_sqlite:
            Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
            self.engine = create_engine(parsed, connect_args={"timeout": BUSY_TIMEOUT_S}, hide_parameters=True)
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        else:
            self.engine = create_engine(parsed, pool_pre_ping=True, isolation_level="READ COMMITTED", hide_parameters=True)
            event.listen(self.engine, "handle_error", _classify_error, retval=True)
        if prepare:
            self._prepare_schema()

    def _prepare_schema(self) -> None:
        """Migrate the tables to this version where they are older, and verify them. One program at a time: all start together."""
        with self.reading() as connection:
            if schema.is_current(connection):
                schema.verify(connection)
                return
        with self.transaction() as connection:
            if not self.is_sqlite:  # SQLite's transaction has the write lock already
                connection.execute(select(func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
            if not schema.is_current(connection):  # else another program was faster
                schema.migrate(connection)
            schema.verify(connection)

    def schema_status(self) -> schema.SchemaStatus:
        """Look at the tables and change nothing.

        Raises
        ------
        LedgerNotUsable
            They were written by a later version of corewatch.
        """
        with self.reading() as connection:
            return schema.status(connection)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction: committed durably when the block ends, rolled back when it raises."""
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A consistent view for reading, which waits for no writer."""
        with self.engine.connect().execution_options(reading=True) as connection:
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by us, see below
    cursor = connection.cursor()
    _use_wal(cursor)
    # FULL makes a commit survive power loss (sqlite.org/pragma.html#pragma_synchronous)
    for pragma in ("synchronous=FULL", "foreign_keys=ON", f"busy_timeout={int(BUSY_TIMEOUT_S * 1000)}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _use_wal(cursor: Any) -> None:
    """Switch to write-ahead logging, which lets readers go on while one program writes; the file keeps it.

    Where two connections switch at the same moment SQLite refuses one of them without waiting: its lock could never be granted.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    # take the write lock at once: a transaction that reads first and writes later would fail instead of wait
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


_SERVER_STATE = frozenset({"08", "25", "28", "3D", "40", "53", "55", "57", "58", "F0", "XX"})
"""Classes of SQLSTATE (PostgreSQL, Appendix A) that report the server's state: shut down or starting, out of connections, memory or
disk, read-only after a failover, deadlocks and timeouts. The same statement may succeed later."""


def _classify_error(context: ExceptionContext) -> BaseException | None:
    """Make PostgreSQL's errors safe to log, and passing ones an `OperationalError`: pg8000 has one class for all.

    PostgreSQL quotes the offending row in the detail of its error; of its fields only severity, code and message are kept.
    """
    error: BaseException | None = context.original_exception
    code = ""
    while error is not None:
        fields = next(iter(error.args), None)
        if isinstance(fields, dict):
            code = code or str(fields.get("C", ""))
            error.args = ({name: fields[name] for name in ("S", "C", "M") if name in fields},)
        error = error.__cause__ or error.__context__
    raised: BaseException | None = context.sqlalchemy_exception
    if isinstance(raised, DatabaseError) and code[:2] in _SERVER_STATE:
        raised = OperationalError(context.statement, None, context.original_exception)
    if raised is not None:
        raised.args = (f"({type(context.original_exception).__name__}) {context.original_exception}",)
    return raised


def unavailable(error: BaseException) -> str | None:
    """Why the database does not answer, in one line; None where the error is another one."""
    if not isinstance(error, (OperationalError, InterfaceError)):
        return None
    lines = str(error.orig or error).splitlines()
    return lines[0] if lines else type(error).__name__


def as_values(row: Row[Any]) -> dict[str, Any]:
    """A row as keyword arguments, lists as tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in row._asdict().items()}
