"""Every layout that the ledger's schema ever had on the main branch, as SQL for both databases.

`NUMBER_NAME.DIALECT.sql` is what a program of that time left in an empty database. The files are never changed; a layout is added
by `python -m tests.support.layouts.generate` after its commit was named there.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import create_engine

FOLDER = Path(__file__).parent
NAMES = sorted({path.name.split(".")[0] for path in FOLDER.glob("*.sql")})


def create(url: str, name: str) -> None:
    """Make the tables of a layout in an empty database."""
    engine = create_engine(url)
    script = (FOLDER / f"{name}.{engine.dialect.name}.sql").read_text()
    with engine.begin() as connection:
        for statement in filter(str.strip, script.split(";\n")):
            connection.exec_driver_sql(statement)
    engine.dispose()
