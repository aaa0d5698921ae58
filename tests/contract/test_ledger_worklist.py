"""The worklist on both databases: the order, filters, pages, and what each row says."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from corewatch.search_keys import identifier_hash
from corewatch.states import CaseState, DeliveryState
from ledger.store import Ledger
from ledger.worklist import Cursor, WorklistFilter
from tests.support.ledger import ARRIVAL, T0, Clock, files, queued, received


def alerted(ledger: Ledger, series: str, *, level: float = 10.0) -> str:
    case_id = queued(ledger, series)
    ledger.cases.advance(case_id, CaseState.QUEUED, CaseState.PREPARED)
    facts = {"core_ml": 41.0, "core_ml_low": 33.0, "core_ml_high": 52.0, "side": "left", "alert": True, "unstable": False}
    ledger.cases.advance(case_id, CaseState.PREPARED, CaseState.DETECTED, **facts)
    waits = [timedelta(minutes=level), timedelta(minutes=2 * level)]
    ledger.deliveries.plan(case_id, CaseState.DETECTED, CaseState.DELIVERING, {"email": None, "folder": None}, escalation=waits)
    return case_id


def listed(ledger: Ledger, wanted: WorklistFilter, limit: int = 50) -> list[str]:
    """Ids of every page, one after another."""
    found: list[str] = []
    after: Cursor | None = None
    while True:
        page = ledger.worklist.page(wanted, after, limit)
        found += [row.case.case_id for row in page.rows]
        if page.following is None:
            return found
        after = Cursor.parse(str(page.following))


@pytest.mark.parametrize("limit", [1, 2, 3, 50])
def test_open_alerts_are_first_and_every_case_is_listed_once(ledger: Ledger, limit: int) -> None:
    oldest = alerted(ledger, "1.1")
    seen = alerted(ledger, "1.2")
    rest = [queued(ledger, f"2.{number}") for number in range(5)]
    second = alerted(ledger, "1.3")
    ledger.alerts.acknowledge(seen, "Brandt", "portal")
    found = listed(ledger, WorklistFilter(), limit)
    assert set(found[:2]) == {oldest, second}
    assert sorted(found) == sorted([oldest, seen, second, *rest])
    assert ledger.worklist.open_alerts() == 2


def test_newest_first(ledger: Ledger, clock: Clock) -> None:
    ledger.intake.register(ARRIVAL)
    ids = []
    for number in range(3):
        moved = [replace(file, stored_at=T0 + timedelta(minutes=number)) for file in files(f"3.{number}", range(2))]
        ids += ledger.intake.ingest(ARRIVAL, moved).opened
    assert listed(ledger, WorklistFilter(), 1) == ids[::-1]
    assert listed(ledger, WorklistFilter(since=T0 + timedelta(minutes=1), until=T0 + timedelta(minutes=2))) == [ids[1]]


def test_a_row_says_what_is_known(ledger: Ledger, clock: Clock) -> None:
    case_id = alerted(ledger, "1.1")
    row = ledger.worklist.row(case_id)
    assert row is not None
    assert row.has_open_alert
    assert row.next_escalation is not None
    assert (row.next_escalation.level, row.next_escalation.due_at) == (1, T0 + timedelta(minutes=10))
    assert row.alerted_after is None
    assert row.senders == (ARRIVAL.peer_ae_title,)
    assert (row.case.core_ml_low, row.case.core_ml_high, row.case.unstable) == (33.0, 52.0, False)
    clock.forward(30)
    ledger.deliveries.begin(case_id, "email", lease_s=60)
    ledger.deliveries.end(case_id, "email", DeliveryState.SENT, detail="")
    ledger.alerts.acknowledge(case_id, "Brandt", "portal")
    row = ledger.worklist.row(case_id)
    assert row is not None
    assert row.alerted_after is not None
    assert 29 < row.alerted_after.total_seconds() <= 30
    assert row.next_escalation is None
    assert not row.has_open_alert
    assert ledger.worklist.row("nothing") is None


def test_filters(ledger: Ledger) -> None:
    alert, seen, waiting = alerted(ledger, "1.1"), alerted(ledger, "1.2"), received(ledger, "2.1")
    ledger.alerts.acknowledge(seen, "Brandt", "portal")
    assert listed(ledger, WorklistFilter(open_alerts=True)) == [alert]
    assert set(listed(ledger, WorklistFilter(alerts_only=True))) == {alert, seen}
    assert listed(ledger, WorklistFilter(acknowledged_by="Brandt")) == [seen]
    assert listed(ledger, WorklistFilter(states=(CaseState.RECEIVING,))) == [waiting]
    assert listed(ledger, WorklistFilter(scanner="Siemens Force")) == []
    assert ledger.worklist.counts(T0 - timedelta(hours=1)) == {CaseState.DELIVERING: 2, CaseState.RECEIVING: 1}


def test_a_superseded_alert_is_not_open(ledger: Ledger) -> None:
    earlier = alerted(ledger, "1.1")
    ledger.intake.ingest(ARRIVAL, files("1.1", range(3, 5)))
    [later] = [case for case in ledger.cases.find(series_uid="1.1") if case.revision == 2]
    ledger.cases.supersede_earlier(later.case_id)
    assert ledger.worklist.open_alerts() == 0
    assert listed(ledger, WorklistFilter()) == [later.case_id]
    assert listed(ledger, WorklistFilter(states=(CaseState.SUPERSEDED,))) == [earlier]


def test_search_by_keyed_hash(ledger: Ledger) -> None:
    key = b"k" * 32
    ledger.intake.register(ARRIVAL)
    with_ids = [
        replace(
            file,
            header=replace(
                file.header,
                scanner="Siemens Force",
                accession_hash=identifier_hash(key, "A-1"),
                patient_id_hash=identifier_hash(key, "P-9"),
            ),
        )
        for file in files("1.1", range(2))
    ]
    [case_id] = ledger.intake.ingest(ARRIVAL, with_ids).opened
    queued(ledger, "1.2")
    for value in ("A-1", " P-9 "):
        assert listed(ledger, WorklistFilter(identifier_hash=identifier_hash(key, value))) == [case_id]
    for value in ("a-1", "A-", "A-11"):
        assert listed(ledger, WorklistFilter(identifier_hash=identifier_hash(key, value))) == []
    assert listed(ledger, WorklistFilter(identifier_hash=identifier_hash(b"another", "A-1"))) == []
    assert listed(ledger, WorklistFilter(scanner="Siemens Force")) == [case_id]
    assert ledger.worklist.scanners(T0 - timedelta(days=1)) == ("Siemens Force",)
    assert "A-1" not in str(with_ids[0].header.to_json())


@pytest.mark.parametrize(
    "text",
    ["", "a", "x.2026-01-01T00:00:00+00:00.c1", "a.2026-01-01T00:00:00.c1", "a.yesterday.c1", "a.2026-01-01T00:00:00+00:00."],
)
def test_no_cursor(text: str) -> None:
    with pytest.raises(ValueError):
        Cursor.parse(text)
