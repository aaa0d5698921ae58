"""A PostgreSQL that cannot just now is no fault of what was to be written: it is written later."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError, OperationalError

from corewatch.states import CaseState
from daemon.intake.assembler import Assembler
from ledger.database import Database
from ledger.store import Ledger
from tests.support.ledger import Clock
from tests.support.postgres import Postgres
from tests.support.site import open_site
from tests.support.spool import head, send_all

pytestmark = pytest.mark.servers


CODES = {
    "57P03": True,  # starting up
    "57014": True,  # statement timeout
    "53300": True,  # too many connections
    "53100": True,  # disk full
    "25006": True,  # read-only after a failover
    "40P01": True,  # deadlock
    "22021": False,  # a character that the encoding does not have
    "23505": False,  # unique
    "54000": False,  # a value too long for an index
}
"""SQLSTATE -> whether it passes."""


def test_errors_are_told_apart(postgres: Postgres, clock: Clock) -> None:
    database = Database(postgres.new_database("awaycodes"), clock)
    for code, passes in CODES.items():
        with pytest.raises(DBAPIError) as caught, database.transaction() as connection:
            connection.exec_driver_sql(
                f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}', DETAIL = 'row ' || '1.2.826.' || '999'; END $$"
            )
        assert isinstance(caught.value, OperationalError) is passes
        assert code in str(caught.value)
        assert "1.2.826.999" not in str(caught.value)
        assert "1.2.826.999" not in str(caught.value.__cause__)
    database.close()


def test_a_good_image_is_not_taken_for_a_bad_one_while_the_server_is_short_of_something(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.new_database("awayshort")
    with open_site(tmp_path) as site:
        ledger = Ledger(url, site.clock)
        assembler = Assembler(ledger, site.settings)
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "CREATE FUNCTION short() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$"
            )
            connection.exec_driver_sql("CREATE TRIGGER short BEFORE INSERT ON instances FOR EACH ROW EXECUTE FUNCTION short()")
        send_all(site.received, site.clock, head())
        with pytest.raises(OperationalError):
            assembler.step(site.clock.tick(1))
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP TRIGGER short ON instances")
        engine.dispose()
        assembler.step(site.clock.tick(2))
        (case,) = ledger.cases.find()
        assert case.state is CaseState.QUEUED
        assert len(ledger.cases.instance_paths(case)) == 12
        ledger.close()
