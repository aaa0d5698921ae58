"""Schema of the ledger: migrated by Alembic when a program opens the database, then compared with the model table by table.

Alembic's own table, here `schema_revision`, names the newest script of `ledger/migrations` that ran. Programs from before these
scripts look at `schema_version` alone; it stays at `SCHEMA_VERSION`, which they refuse.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from alembic.autogenerate import compare_metadata
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, delete, insert, inspect, select, text

from corewatch.errors import ConfigurationError
from ledger import tables

SCRIPTS: Final = Path(__file__).parent / "migrations"
REVISION_TABLE: Final = "schema_revision"

TRIGGERS: Final[Mapping[str, frozenset[str]]] = {
    "sqlite": frozenset({"audit_no_update", "audit_no_delete", "audit_no_replace"}),
    "postgresql": frozenset({"audit_no_update", "audit_no_delete", "audit_no_truncate"}),
}
"""Dialect -> triggers that keep the audit trail append-only."""

_FIRST_TABLE: Final = {
    "0008": "audit_cursors",
    "0007": "alerts",
    "0006": "mail_places",
    "0005": "commitments_asked",
    "0004": "letters",
    "0003": "schema_version",
}
"""Layouts from before `schema_revision`, newest first -> a table that only they and later ones have."""

MISMATCH_REMEDY: Final = "restore the ledger from a backup, or use the version of corewatch that wrote it"

_MISSING: Final = "the table is missing"

_MIGRATING = threading.Lock()
"""`alembic.op` is one object per process."""

_LOADING = threading.Lock()


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which a ledger's table is not what this version of corewatch needs."""

    table: str
    problem: str

    def __str__(self) -> str:
        return f"{self.table}: {self.problem}"


class LedgerNotUsable(ConfigurationError):
    """The ledger was written by a later version of corewatch, or its tables do not match this one.

    Attributes
    ----------
    differences
        What does not match; empty for a ledger of a later version.
    """

    def __init__(self, problem: str, remedy: str, differences: Sequence[Difference] = ()) -> None:
        super().__init__(problem, remedy)
        self.differences = tuple(differences)


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """What opening a ledger would meet.

    Attributes
    ----------
    revision
        The ledger's revision; None for an empty database.
    is_current
        Whether no migration has to run; else the next program that opens the ledger runs it.
    differences
        What does not match the model, of a ledger that is current.
    """

    revision: str | None
    is_current: bool
    differences: tuple[Difference, ...] = ()


def newest_revision() -> str:
    """Revision that this version of corewatch needs."""
    return str(_scripts().get_current_head())


def current_revision(connection: Connection) -> str | None:
    """Revision of the ledger; None for an empty database.

    Raises
    ------
    LedgerNotUsable
        It was written by a later version of corewatch.
    """
    there = frozenset(inspect(connection).get_table_names())
    if tables.schema.name in there:
        version = connection.scalar(select(tables.schema.c.version)) or 0
        if version > tables.SCHEMA_VERSION:
            raise _written_later(str(version))
    if REVISION_TABLE in there and (noted := _context(connection).get_current_revision()) is not None:
        try:
            _scripts().get_revision(noted)
        except CommandError as error:
            raise _written_later(noted) from error
        return str(noted)
    if tables.cases.name not in there:
        return None
    for revision, table in _FIRST_TABLE.items():
        if table in there:
            return revision
    columns = {column["name"] for column in inspect(connection).get_columns("deliveries")}
    return "0002" if "planned_at" in columns else "0001"


def is_current(connection: Connection) -> bool:
    """Whether no migration has to run.

    Raises
    ------
    LedgerNotUsable
        The ledger was written by a later version of corewatch.
    """
    return current_revision(connection) == newest_revision() and REVISION_TABLE in inspect(connection).get_table_names()


def status(connection: Connection) -> SchemaStatus:
    """Look at the schema and change nothing.

    Raises
    ------
    LedgerNotUsable
        The ledger was written by a later version of corewatch.
    """
    if not is_current(connection):
        return SchemaStatus(current_revision(connection), is_current=False)
    return SchemaStatus(newest_revision(), is_current=True, differences=tuple(differences(connection)))


def migrate(connection: Connection) -> None:
    """Run every script that is newer than the ledger, from the first one in an empty database.

    The caller holds a lock that keeps every other program from doing the same, and rolls back when this raises.

    Raises
    ------
    LedgerNotUsable
        The ledger was written by a later version of corewatch.
    """
    with _MIGRATING:
        scripts, context = _scripts(), _context(connection)
        pending = list(scripts.iterate_revisions("head", current_revision(connection) or "base"))
        for script in reversed(pending):
            with Operations.context(context):
                script.module.upgrade()
        context.stamp(scripts, "head")
    connection.execute(delete(tables.schema))
    connection.execute(insert(tables.schema).values(version=tables.SCHEMA_VERSION))


def verify(connection: Connection) -> None:
    """Compare the real schema with the model.

    Raises
    ------
    LedgerNotUsable
        They differ; the error holds the differences.
    """
    if found := differences(connection):
        problem = f"database.url: the ledger's tables do not match this version of corewatch ({', '.join(map(str, found))})"
        raise LedgerNotUsable(problem, MISMATCH_REMEDY, found)


def differences(connection: Connection) -> list[Difference]:
    """Tables, columns, constraints, indexes and triggers that are missing or not as in the model, sorted by table.

    Other tables in the same database and further indexes that only make it faster are no difference.
    """
    changes = compare_metadata(_context(connection), tables.metadata)
    found = [one for change in changes for one in _differences_of(change)]
    missing = {one.table for one in found if one.problem == _MISSING}
    found = [one for one in found if one.table not in missing or one.problem == _MISSING]
    found += [Difference(tables.audit.name, f"trigger {name} is missing") for name in _missing_triggers(connection)]
    return sorted(found, key=lambda one: (one.table, one.problem))


def _written_later(layout: str) -> LedgerNotUsable:
    return LedgerNotUsable(
        f"database.url: this ledger has layout {layout}, this version of corewatch knows none after {newest_revision()}",
        "use the version of corewatch that wrote it, or give another data_dir or database",
    )


def _scripts() -> ScriptDirectory:
    with _LOADING:
        return _load_scripts()


@cache
def _load_scripts() -> ScriptDirectory:
    scripts = ScriptDirectory(str(SCRIPTS), version_locations=[str(SCRIPTS)])
    scripts.get_heads()  # reads the files, which Alembic does when first asked, in any thread
    return scripts


def _context(connection: Connection) -> MigrationContext:
    options = {"version_table": REVISION_TABLE, "include_name": _is_ours, "compare_type": True}
    return MigrationContext.configure(connection, opts=options)


def _is_ours(name: str | None, kind: str, _parents: Mapping[str, Any]) -> bool:
    return kind != "table" or name in tables.metadata.tables


def _missing_triggers(connection: Connection) -> list[str]:
    dialect = connection.dialect.name
    query = {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit'",
        "postgresql": "SELECT tgname FROM pg_trigger WHERE tgrelid = to_regclass('audit') AND tgenabled <> 'D'",
    }[dialect]
    return sorted(TRIGGERS[dialect] - set(connection.scalars(text(query))))


def _differences_of(change: Any) -> Iterator[Difference]:
    """What a change that Alembic would make to reach the model says of the ledger."""
    if isinstance(change, list):  # several properties of one column
        for _kind, _schema, table, column, _existing, there, wanted in change:
            yield Difference(table, f"column {column} is {_shown(there)} where {_shown(wanted)} is needed")
        return
    kind, *what = change
    if kind == "add_table":
        yield Difference(what[0].name, _MISSING)
    elif kind in {"add_column", "remove_column"}:
        _schema, table, column = what
        yield Difference(table, f"column {column.name} is " + ("missing" if kind == "add_column" else "unknown"))
    elif kind != "remove_index" or what[0].unique:
        item = what[0]
        name = item.name or ", ".join(column.name for column in item.columns)
        sort = "index" if kind.endswith("_index") else "foreign key" if kind.endswith("_fk") else "constraint"
        yield Difference(item.table.name, f"{sort} {name} is " + ("missing" if kind.startswith("add") else "unknown"))


def _shown(value: object) -> str:
    return {True: "nullable", False: "not nullable"}.get(value, str(value)) if isinstance(value, bool) else str(value)
