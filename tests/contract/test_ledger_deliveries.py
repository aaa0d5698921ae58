"""What the ledger promises of deliveries, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import threading
from datetime import timedelta

from corewatch.reasons import Reason
from corewatch.states import CaseState, DeliveryState, Stage
from corewatch.stored_objects import StoredObject
from ledger.store import Ledger
from tests.support.ledger import Clock, delivering, queued


def test_the_last_delivery_ends_the_case(ledger: Ledger) -> None:
    case_id = delivering(ledger, pacs=None, email=None, other="does not apply")
    for name, last in (("pacs", False), ("email", True)):
        assert ledger.deliveries.begin(case_id, name, lease_s=60) is not None
        assert ledger.deliveries.end(case_id, name, DeliveryState.SENT, detail="ok") is last
    case = ledger.cases.get(case_id)
    assert case is not None
    assert case.state is CaseState.DELIVERED
    assert {d.destination: d.state for d in ledger.deliveries.of(case_id)} == {
        "pacs": DeliveryState.SENT, "email": DeliveryState.SENT, "other": DeliveryState.SKIPPED
    }  # fmt: skip


def test_a_case_without_a_destination_that_applies_ends_at_once(ledger: Ledger) -> None:
    case = ledger.cases.get(delivering(ledger, pacs="no DICOM source"))
    assert case is not None
    assert case.state is CaseState.DELIVERED


def test_a_sent_delivery_is_never_begun_again(ledger: Ledger) -> None:
    case_id = delivering(ledger, pacs=None)
    ledger.deliveries.begin(case_id, "pacs", lease_s=60)
    ledger.deliveries.end(case_id, "pacs", DeliveryState.SENT, detail="ok")
    assert ledger.deliveries.begin(case_id, "pacs", lease_s=60, takeover=True) is None
    assert not ledger.deliveries.end(case_id, "pacs", DeliveryState.SENT, detail="ok")


def test_a_refused_delivery_fails_the_case_and_tells_the_operators_once(ledger: Ledger) -> None:
    case_id = delivering(ledger, pacs=None, folder=None)
    ledger.deliveries.begin(case_id, "folder", lease_s=60)
    ledger.deliveries.end(case_id, "folder", DeliveryState.SENT, detail="ok")
    ledger.deliveries.begin(case_id, "pacs", lease_s=60)
    assert ledger.deliveries.end(case_id, "pacs", DeliveryState.REFUSED, detail="no", notices=("folder", "operators"))
    case = ledger.cases.get(case_id)
    assert case is not None
    assert (case.state, case.failed_stage) == (CaseState.FAILED, Stage.DELIVER)
    states = {d.destination: d.state for d in ledger.deliveries.of(case_id)}
    assert states == {"pacs": DeliveryState.REFUSED, "folder": DeliveryState.SENT, "operators": DeliveryState.PENDING}


def test_an_escalation_that_is_refused_after_the_end_is_told(ledger: Ledger, clock: Clock) -> None:
    case_id = queued(ledger)
    ledger.cases.advance(case_id, CaseState.QUEUED, CaseState.PREPARED)
    ledger.cases.advance(case_id, CaseState.PREPARED, CaseState.DETECTED, core_ml=40.0, side="left", alert=True)
    levels = [timedelta(minutes=1)]
    ledger.deliveries.plan(case_id, CaseState.DETECTED, CaseState.DELIVERING, {"pacs": "no source"}, escalation=levels)
    clock.forward(61)
    assert ledger.alerts.fire(clock.now) == [(case_id, 1)]
    ledger.deliveries.begin(case_id, "escalation-1", lease_s=60)
    assert ledger.deliveries.end(case_id, "escalation-1", DeliveryState.REFUSED, detail="550", notices=("operators",))
    case = ledger.cases.get(case_id)
    assert case is not None
    assert (case.state, case.failed_stage) == (CaseState.FAILED, Stage.DELIVER)
    states = {d.destination: d.state for d in ledger.deliveries.of(case_id)}
    assert states["operators"] is DeliveryState.PENDING
    assert ledger.cases.retry(case_id) is Stage.RENDER
    ledger.deliveries.plan(case_id, CaseState.DETECTED, CaseState.DELIVERING, {"escalation-1": "no longer in the settings"})
    case = ledger.cases.get(case_id)
    assert case is not None
    assert case.state is CaseState.DELIVERED


def test_a_delivery_that_failed_waits_alone(ledger: Ledger, clock: Clock) -> None:
    case_id = delivering(ledger, pacs=None, email=None)
    for posted in ledger.outbox.due(clock.now):
        ledger.outbox.mark_published(posted)
    ledger.deliveries.begin(case_id, "pacs", lease_s=60)
    later = clock.now + timedelta(seconds=30)
    assert ledger.deliveries.release(case_id, "pacs", why="down", not_before=later, counts=False)
    assert [d.attempts for d in ledger.deliveries.of(case_id) if d.destination == "pacs"] == [0]
    assert ledger.outbox.due(clock.now) == []
    clock.forward(31)
    assert [p.work.destination for p in ledger.outbox.due(clock.now)] == ["pacs"]


def test_two_deliveries_that_end_together_end_the_case_once(url: str, ledger: Ledger) -> None:
    names = [f"d{k}" for k in range(6)]
    case_id = delivering(ledger, **dict.fromkeys(names))
    last: list[str] = []
    for name in names:
        ledger.deliveries.begin(case_id, name, lease_s=60)

    def finish(name: str) -> None:
        own = Ledger(url)
        if own.deliveries.end(case_id, name, DeliveryState.SENT, detail="ok"):
            last.append(name)
        own.close()

    threads = [threading.Thread(target=finish, args=(n,)) for n in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    case = ledger.cases.get(case_id)
    assert case is not None
    assert case.state is CaseState.DELIVERED
    assert len(last) == 1


def test_overdue_deliveries_are_posted_again(ledger: Ledger, clock: Clock) -> None:
    case_id = delivering(ledger, pacs=None)
    clock.forward(200)
    [late] = ledger.deliveries.overdue(clock.now)
    assert (late.case_id, late.destination) == (case_id, "pacs")
    ledger.deliveries.repost(late)
    assert ledger.deliveries.overdue(clock.now) == []
    clock.forward(199)  # the next look comes as late again, so that a weekend without a worker is no flood
    assert ledger.deliveries.overdue(clock.now) == []
    clock.forward(2)
    assert len(ledger.deliveries.overdue(clock.now)) == 1


def test_what_a_vanished_worker_was_sending_is_free_for_the_next(ledger: Ledger, clock: Clock) -> None:
    """Its message is gone with it (the broker was wiped): nothing but the ledger knows."""
    case_id = delivering(ledger, pacs=None)
    assert ledger.deliveries.begin(case_id, "pacs", lease_s=60, holder="host/1/2") is not None
    assert [d.holder for d in ledger.deliveries.held()] == ["host/1/2"]
    clock.forward(200)
    [late] = ledger.deliveries.overdue(clock.now)
    ledger.deliveries.repost(late)
    ledger.deliveries.repost(late)  # another look at the same time
    again = ledger.deliveries.begin(case_id, "pacs", lease_s=60)
    assert again is not None
    assert again.attempts == 2
    assert ledger.deliveries.begin(case_id, "pacs", lease_s=60) is None
    clock.forward(1)
    ledger.deliveries.repost(late)
    assert ledger.deliveries.begin(case_id, "pacs", lease_s=60) is None, "what is being sent is not taken from its worker"


def test_retry_of_a_delivery_keeps_what_was_sent(ledger: Ledger) -> None:
    case_id = delivering(ledger, pacs=None, email=None)
    ledger.deliveries.begin(case_id, "email", lease_s=60)
    ledger.deliveries.end(case_id, "email", DeliveryState.SENT, detail="ok")
    ledger.deliveries.begin(case_id, "pacs", lease_s=60)
    ledger.deliveries.end(case_id, "pacs", DeliveryState.REFUSED, detail="no")
    assert ledger.cases.retry(case_id) is Stage.RENDER
    assert ledger.deliveries.plan(case_id, CaseState.DETECTED, CaseState.DELIVERING, {"pacs": None, "email": None})
    states = {d.destination: d.state for d in ledger.deliveries.of(case_id)}
    assert states == {"pacs": DeliveryState.PENDING, "email": DeliveryState.SENT}


def test_who_was_told_of_an_end_is_told_of_the_next_one(ledger: Ledger) -> None:
    case_id = queued(ledger)
    notices = dict.fromkeys(["folder", "operators"])

    def end() -> None:
        ledger.deliveries.plan(case_id, CaseState.QUEUED, CaseState.NOT_ANALYSED, notices, reason=Reason.MODEL_MISSING)
        assert {d.state for d in ledger.deliveries.of(case_id)} == {DeliveryState.PENDING}
        for name in notices:
            assert ledger.deliveries.begin(case_id, name, lease_s=60) is not None
            ledger.deliveries.end(case_id, name, DeliveryState.SENT, detail="ok")

    end()
    assert ledger.cases.retry(case_id) is Stage.PREPARE
    end()


def test_objects_are_remembered_until_an_operator_starts_the_delivery_again(ledger: Ledger) -> None:
    case_id = delivering(ledger, pacs=None, other=None)
    for name in ("pacs", "other"):
        ledger.deliveries.begin(case_id, name, lease_s=60)
        ledger.stored_objects.add(case_id, name, "1.1", StoredObject("00", 0xB000))
        ledger.stored_objects.add(case_id, name, "1.1", StoredObject("11", 0))
    assert ledger.stored_objects.known(case_id, "pacs") == {"1.1": StoredObject("11", 0)}
    ledger.deliveries.release(case_id, "pacs", why="slow", not_before=ledger.clock(), counts=False)
    assert set(ledger.stored_objects.known(case_id, "pacs")) == {"1.1"}
    ledger.deliveries.begin(case_id, "pacs", lease_s=60)
    ledger.deliveries.end(case_id, "pacs", DeliveryState.REFUSED, detail="no")
    ledger.deliveries.end(case_id, "other", DeliveryState.SENT, detail="ok")
    assert ledger.cases.retry(case_id) is Stage.RENDER
    assert ledger.deliveries.plan(case_id, CaseState.DETECTED, CaseState.DELIVERING, {"pacs": None, "other": None})
    assert ledger.stored_objects.known(case_id, "pacs") == {}
    assert set(ledger.stored_objects.known(case_id, "other")) == {"1.1"}


def test_a_delivery_that_waits_for_a_free_process_was_not_attempted(ledger: Ledger, clock: Clock) -> None:
    case_id = delivering(ledger, pacs=None)
    for posted in ledger.outbox.due(clock.now):
        ledger.outbox.mark_published(posted)
    assert ledger.deliveries.postpone(case_id, "pacs", clock.now + timedelta(seconds=2))
    assert ledger.outbox.due(clock.now) == []
    clock.forward(2)
    assert [p.work.destination for p in ledger.outbox.due(clock.now)] == ["pacs"]
    begun = ledger.deliveries.begin(case_id, "pacs", lease_s=60)
    assert begun is not None
    assert begun.attempts == 1
    assert not ledger.deliveries.postpone(case_id, "pacs", clock.now), "it is being sent"
