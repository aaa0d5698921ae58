"""The feed of changes on both databases: nothing is missed, nothing is delivered twice, and a cursor resumes."""

from __future__ import annotations

from sqlalchemy import insert

from ledger.change_feed import FeedPosition
from ledger.store import Ledger
from ledger.tables import audit
from tests.support.ledger import Clock, queued


def line(ledger: Ledger, number: int, event: str = "case.queued") -> None:
    with ledger.changes._database.transaction() as connection:
        values = {"id": number, "at": ledger.clock(), "case_id": f"c{number}", "event": event, "detail": {}}
        connection.execute(insert(audit).values(values))


def test_each_change_once(ledger: Ledger) -> None:
    position = FeedPosition(ledger.changes.newest())
    assert ledger.changes.following(position) == []
    case_id = queued(ledger)
    events = ledger.changes.following(position)
    assert [change.event for change in events] == ["case.receiving", "case.queued"]
    assert {change.case_id for change in events} == {case_id}
    assert ledger.changes.following(position) == []
    assert ledger.changes.since(events[0].cursor) == [events[1]]
    assert ledger.changes.since(events[1].cursor) == []


def test_views_are_no_changes(ledger: Ledger) -> None:
    case_id = queued(ledger)
    position = FeedPosition(ledger.changes.newest())
    ledger.note("portal.patient_viewed", case_id, by="brandt")
    ledger.note("arrival.repeated", case_id)
    assert ledger.changes.following(position) == []
    assert position.floor == ledger.changes.newest()


def test_a_late_line_is_delivered_and_a_resumed_reader_gets_it(ledger: Ledger, clock: Clock) -> None:
    position = FeedPosition(0)
    line(ledger, 1)
    line(ledger, 3)
    assert [(change.case_id, change.cursor) for change in ledger.changes.following(position)] == [("c1", 1), ("c3", 1)]
    assert ledger.changes.following(position) == []
    line(ledger, 4)
    assert [(change.case_id, change.cursor) for change in ledger.changes.following(position)] == [("c4", 1)]
    line(ledger, 2)
    assert [change.case_id for change in ledger.changes.since(1) or ()] == ["c2", "c3", "c4"]
    assert [(change.case_id, change.cursor) for change in ledger.changes.following(position)] == [("c2", 4)]
    assert (position.floor, position.ahead) == (4, set())


def test_a_gap_that_stays_is_passed(ledger: Ledger, clock: Clock) -> None:
    position = FeedPosition(0)
    line(ledger, 2)
    assert [change.cursor for change in ledger.changes.following(position)] == [0]
    clock.forward(61)
    assert ledger.changes.following(position) == []
    line(ledger, 3)
    assert [change.cursor for change in ledger.changes.following(position)] == [3]


def test_too_far_behind(ledger: Ledger) -> None:
    for number in range(1, 6):
        line(ledger, number)
    assert ledger.changes.since(0, limit=4) is None
    assert ledger.changes.since(99) is None
