"""Judges the URL of the ledger's database without connecting to it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

_FORM: Final = "write postgresql+pg8000://user:password@host/database, or leave it out for SQLite in data_dir"


def database_url_problem(url: str) -> tuple[str, str] | None:
    """Why corewatch cannot use the URL, and what to write instead; None if it can."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return "is no database URL", _FORM
    if parsed.drivername in {"sqlite", "sqlite+pysqlite"}:
        return None if parsed.database and parsed.database != ":memory:" else ("names no file", _FORM)
    if parsed.drivername != "postgresql+pg8000":
        return f"{parsed.drivername}:// is not supported", _FORM
    if find_spec("pg8000") is None:
        return "its driver pg8000 is not installed", "pip install 'corewatch[postgres]'"
    return None if parsed.database else ("names no database", _FORM)
