"""A ledger that an earlier version made is brought up to the present layout, with everything in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, select

from corewatch.errors import ConfigurationError
from corewatch.states import CaseState
from ledger import migrations, tables
from ledger.store import Ledger
from tests.support.ledger import Clock, delivering, queued

LAYOUTS = Path(__file__).parents[1] / "support" / "layouts"
OLD = range(migrations.OLDEST, tables.SCHEMA_VERSION)


def made_by(url: str, version: int) -> None:
    engine = create_engine(url)
    script = (LAYOUTS / f"{version}.{engine.dialect.name}.sql").read_text()
    with engine.begin() as connection:
        for statement in filter(str.strip, script.split(";\n")):
            connection.exec_driver_sql(statement)
    engine.dispose()


def columns(url: str) -> dict[str, set[str]]:
    engine = create_engine(url)
    found = {name: {c["name"] for c in inspect(engine).get_columns(name)} for name in inspect(engine).get_table_names()}
    engine.dispose()
    return found


@pytest.mark.parametrize("version", OLD)
def test_an_old_layout_is_brought_up_to_date(url: str, clock: Clock, version: int) -> None:
    made_by(url, version)
    Ledger(url, clock).close()
    assert columns(url) == {table.name: {c.name for c in table.columns} for table in tables.metadata.sorted_tables}
    ledger = Ledger(url, clock)
    case = ledger.cases.get(delivering(ledger, folder=None))
    assert case is not None
    assert case.state is CaseState.DELIVERING
    ledger.close()


@pytest.mark.parametrize("version", OLD)
def test_what_an_old_ledger_holds_stays(url: str, clock: Clock, version: int) -> None:
    made_by(url, version)
    engine = create_engine(url)
    with engine.begin() as connection:
        now = clock()
        common = {"revision": 1, "state": "queued", "detail": "", "email": [], "attempts": 0, "files_removed": False}
        times = {"created_at": now, "last_stored_at": now, "updated_at": now}
        connection.execute(tables.cases.insert().values(case_id="old", case_key="k", series_uid="1.2", **common, **times))
    engine.dispose()
    ledger = Ledger(url, clock)
    case = ledger.cases.get("old")
    assert case is not None
    assert case.state is CaseState.QUEUED
    ledger.close()


def test_a_later_layout_is_refused_untouched(url: str, clock: Clock) -> None:
    ledger = Ledger(url, clock)
    queued(ledger)
    ledger.close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(tables.schema.update().values(version=tables.SCHEMA_VERSION + 1))
    with pytest.raises(ConfigurationError, match="this ledger has layout"):
        Ledger(url, clock)
    with engine.begin() as connection:
        assert connection.scalar(select(tables.schema.c.version)) == tables.SCHEMA_VERSION + 1
    engine.dispose()
