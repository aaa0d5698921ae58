"""The audit trail grows and nothing else, on both databases; it is read once, in order."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from ledger import tables
from ledger.store import Ledger
from tests.support import layouts
from tests.support.ledger import Clock, delivering, queued

CHANGES = ["UPDATE audit SET event = 'nothing'", "DELETE FROM audit", "DELETE FROM audit WHERE id = (SELECT max(id) FROM audit)"]


def refused(url: str, statement: str) -> None:
    engine = create_engine(url)
    with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


@pytest.mark.parametrize("statement", CHANGES)
def test_no_line_can_be_changed_or_removed(statement: str, url: str, ledger: Ledger) -> None:
    case_id = queued(ledger)
    before = ledger.cases.history(case_id)
    assert before
    refused(url, statement)
    assert ledger.cases.history(case_id) == before
    ledger.note("operator.looked", case_id)
    assert len(ledger.cases.history(case_id)) == len(before) + 1


def test_nor_all_at_once(url: str, ledger: Ledger) -> None:
    queued(ledger)
    refused(url, "TRUNCATE audit CASCADE" if url.startswith("postgresql") else "REPLACE INTO audit SELECT * FROM audit")


@pytest.mark.parametrize("layout", layouts.NAMES)
def test_a_ledger_of_an_earlier_version_becomes_so_too(layout: str, url: str, clock: Clock) -> None:
    layouts.create(url, layout)
    ledger = Ledger(url, clock)
    queued(ledger)
    refused(url, "DELETE FROM audit")
    ledger.close()
    Ledger(url, clock).close()


def test_lines_come_in_order_and_within_a_time(ledger: Ledger, clock: Clock) -> None:
    delivering(ledger, folder=None)
    clock.forward(60)
    middle = clock.now
    ledger.note("operator.looked", who="x")
    whole = list(ledger.audit_trail.lines())
    assert [line.id for line in whole] == sorted(line.id for line in whole)
    assert [line.event for line in ledger.audit_trail.lines(since=middle)] == ["operator.looked"]
    assert list(ledger.audit_trail.lines(until=middle)) == whole[:-1]
    assert whole[-1].to_json()["who"] == "x"


def test_a_reader_gets_each_line_once(url: str, ledger: Ledger, clock: Clock) -> None:
    queued(ledger, "1.1")
    assert ledger.audit_trail.unread("syslog", 100) == [], "it begins with what is written from now on"
    for number in range(5):
        ledger.note("event", number=number)
    first = ledger.audit_trail.unread("syslog", 3)
    assert [line.detail["number"] for line in first] == [0, 1, 2]
    assert ledger.audit_trail.unread("syslog", 3) == first, "until it says that it is done"
    ledger.audit_trail.read("syslog", first[-1].id)
    other = Ledger(url, clock)
    assert [line.detail["number"] for line in other.audit_trail.unread("syslog", 100)] == [3, 4]
    other.close()


def test_what_is_still_on_its_way_is_waited_for(url: str, ledger: Ledger, clock: Clock) -> None:
    """PostgreSQL gives numbers before the commit: a line with a lower number may appear later."""
    ledger.audit_trail.unread("syslog", 1)
    ledger.note("first")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(tables.audit.insert().values(id=50, at=clock.now, event="third", detail={}))
    assert [line.event for line in ledger.audit_trail.unread("syslog", 100)] == ["first"]
    with engine.begin() as connection:
        connection.execute(tables.audit.insert().values(id=49, at=clock.now, event="second", detail={}))
    clock.forward(61)
    assert [line.event for line in ledger.audit_trail.unread("syslog", 100)] == ["first", "second", "third"]
    engine.dispose()
