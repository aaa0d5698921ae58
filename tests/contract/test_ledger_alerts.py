"""Alerts, their acknowledgement and their escalation, on both databases."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from corewatch.mail_receipts import MailEvent, MailKind
from corewatch.states import CaseState, Stage
from ledger.alerts import EscalationState
from ledger.store import Ledger
from tests.support.ledger import ARRIVAL, Clock, files, queued

LEVELS = (timedelta(minutes=10), timedelta(minutes=25))


def alert(ledger: Ledger, series: str = "1.2") -> str:
    case_id = queued(ledger, series)
    ledger.cases.advance(case_id, CaseState.QUEUED, CaseState.PREPARED)
    ledger.cases.advance(case_id, CaseState.PREPARED, CaseState.DETECTED, core_ml=40.0, side="left", alert=True)
    assert ledger.deliveries.plan(case_id, CaseState.DETECTED, CaseState.DELIVERING, {"email": None}, escalation=LEVELS)
    return case_id


def states(ledger: Ledger, case_id: str) -> list[EscalationState]:
    return [level.state for level in ledger.alerts.levels(case_id)]


def escalation_of(case_id: str, level: int = 1) -> MailEvent:
    return MailEvent(f"k-{case_id}-{level}", case_id, f"escalation-{level}", MailKind.ESCALATION)


def test_each_level_fires_once_when_it_is_due(url: str, ledger: Ledger, clock: Clock) -> None:
    case_id = alert(ledger)
    assert ledger.alerts.fire(clock.now) == []
    assert ledger.alerts.next_due() == clock.now + LEVELS[0]
    clock.forward(601)
    again = Ledger(url, clock)  # a restart loses nothing
    assert again.alerts.fire(clock.now) == [(case_id, 1)]
    assert ledger.alerts.fire(clock.now) == []
    assert {d.destination for d in ledger.deliveries.of(case_id)} == {"email", "escalation-1"}
    clock.forward(86400)
    assert ledger.alerts.fire(clock.now) == [(case_id, 2)]
    assert ledger.alerts.next_due() is None
    again.close()


def test_acknowledgement_ends_it_and_the_first_one_counts(ledger: Ledger, clock: Clock) -> None:
    case_id = alert(ledger)
    clock.forward(700)
    ledger.alerts.fire(clock.now)
    first = ledger.alerts.acknowledge(case_id, "Dr. First", "team")
    clock.forward(60)
    second = ledger.alerts.acknowledge(case_id, "Dr. Second", "night")
    assert first is not None
    assert first == second
    assert (first.acknowledged_by, first.acknowledged_as) == ("Dr. First", "team")
    clock.forward(86400)
    assert ledger.alerts.fire(clock.now) == []
    assert states(ledger, case_id) == [EscalationState.POSTED, EscalationState.CANCELLED]
    trail = [(h.event, h.detail.get("by"), h.detail.get("first")) for h in ledger.cases.history(case_id) if "alert." in h.event]
    assert ("alert.acknowledged", "Dr. First", True) in trail
    assert ("alert.acknowledged", "Dr. Second", False) in trail


def test_an_alert_stands_until_a_later_result_is_ready_to_be_delivered(ledger: Ledger, clock: Clock) -> None:
    first = alert(ledger)
    [second] = ledger.intake.ingest(ARRIVAL, files("1.2", range(3, 4))).opened
    ledger.cases.advance(second, CaseState.RECEIVING, CaseState.QUEUED, case_key="key two")
    ledger.cases.advance(second, CaseState.QUEUED, CaseState.PREPARED)
    ledger.cases.advance(second, CaseState.PREPARED, CaseState.DETECTED, core_ml=41.0, side="left", alert=True)
    ledger.cases.advance(second, CaseState.DETECTED, CaseState.FAILED, failed_stage=Stage.RENDER, detail="no page")
    clock.forward(601)
    assert ledger.alerts.fire(clock.now) == [(first, 1)]
    # an operator had it tried again
    ledger.cases.advance(second, CaseState.FAILED, CaseState.DETECTED)
    assert ledger.deliveries.plan(second, CaseState.DETECTED, CaseState.DELIVERING, {"email": None}, escalation=LEVELS)
    clock.forward(86400)
    assert [case_id for case_id, _ in ledger.alerts.fire(clock.now)] == [second, second]


def test_a_case_that_is_superseded_is_not_escalated(ledger: Ledger, clock: Clock) -> None:
    case_id = alert(ledger)
    assert ledger.cases.advance(case_id, CaseState.DELIVERING, CaseState.SUPERSEDED)
    clock.forward(86400)
    assert ledger.alerts.fire(clock.now) == []
    assert states(ledger, case_id) == [EscalationState.CANCELLED] * 2


def test_a_result_without_an_alert_has_none(ledger: Ledger) -> None:
    assert ledger.alerts.acknowledge(queued(ledger), "Dr. First", "team") is None
    assert ledger.alerts.acknowledge("unknown", "Dr. First", "team") is None


def test_planned_again_it_keeps_its_times(ledger: Ledger, clock: Clock) -> None:
    case_id = alert(ledger)
    due = [level.due_at for level in ledger.alerts.levels(case_id)]
    ledger.cases.advance(case_id, CaseState.DELIVERING, CaseState.FAILED, failed_stage=Stage.DELIVER)
    assert ledger.cases.retry(case_id) is Stage.RENDER
    clock.forward(60)
    assert ledger.deliveries.plan(case_id, CaseState.DETECTED, CaseState.DELIVERING, {"email": None}, escalation=LEVELS)
    assert [level.due_at for level in ledger.alerts.levels(case_id)] == due


def test_an_escalation_on_its_way_stops_at_the_last_moment(ledger: Ledger, clock: Clock) -> None:
    case_id = alert(ledger)
    clock.forward(601)
    ledger.alerts.fire(clock.now)
    ledger.alerts.acknowledge(case_id, "Dr. First", "team")
    assert ledger.mail_receipts.begin(escalation_of(case_id), "<m>", ["next@x"]) == "the alert was acknowledged meanwhile"
    assert ledger.mail_receipts.of(case_id) == []
    assert ledger.mail_receipts.begin(MailEvent("k", case_id, "email", MailKind.ALERT), "<m>", ["team@x"]) is None


@pytest.mark.parametrize("number", range(4))
def test_acknowledgement_and_escalation_at_the_same_moment(number: int, url: str, ledger: Ledger, clock: Clock) -> None:
    """Whatever comes first: either the mail goes out and the trail says so before the acknowledgement, or it does not go out."""
    case_id = alert(ledger, f"1.{number + 5}")
    clock.forward(601)
    barrier = threading.Barrier(3)
    begun: list[str | None] = []

    def escalate() -> None:
        own = Ledger(url, clock)
        barrier.wait()
        for case, level in own.alerts.fire(clock.now):
            begun.append(own.mail_receipts.begin(escalation_of(case, level), "<m>", ["next@x"]))
        own.close()

    def acknowledge() -> None:
        own = Ledger(url, clock)
        barrier.wait()
        own.alerts.acknowledge(case_id, "Dr. First", "team")
        own.close()

    threads = [threading.Thread(target=work) for work in (escalate, escalate, acknowledge)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = [line.event for line in ledger.cases.history(case_id)]
    assert len(begun) <= 1, "fired once"
    sent = [row for row in ledger.mail_receipts.of(case_id) if row.destination == "escalation-1"]
    assert len(sent) == sum(why is None for why in begun)
    if sent:
        assert events.index("letter.sending") < events.index("alert.acknowledged")
    clock.forward(86400)
    assert ledger.alerts.fire(clock.now) == []
