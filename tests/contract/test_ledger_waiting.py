"""Since when each case waits, and the mails about it."""

from __future__ import annotations

from datetime import timedelta

from config.settings import Settings
from corewatch.states import CaseState, DeliveryState
from corewatch.waiting import WaitingCase
from daemon.upkeep.waiting_cases import Notice, WaitingCasesWatch
from ledger.store import Ledger
from tests.support.ledger import T0, Clock, delivering, queued, received


def test_a_case_waits_since_it_entered_its_state_whatever_is_retried(ledger: Ledger, clock: Clock) -> None:
    case_id = queued(ledger)
    clock.forward(60)
    assert ledger.cases.begin(case_id, CaseState.QUEUED, holder="a", lease_s=60)
    assert ledger.cases.release(case_id, CaseState.QUEUED, holder="a", why="x", not_before=clock.now)
    assert ledger.waiting_cases() == [WaitingCase(case_id, CaseState.QUEUED, T0)]
    clock.forward(60)
    ledger.cases.advance(case_id, CaseState.QUEUED, CaseState.PREPARED)
    assert ledger.waiting_cases() == [WaitingCase(case_id, CaseState.PREPARED, clock.now)]


def test_a_case_that_is_received_waits_since_its_last_instance(ledger: Ledger) -> None:
    case_id = received(ledger, count=3)
    assert ledger.waiting_cases() == [WaitingCase(case_id, CaseState.RECEIVING, T0 + timedelta(milliseconds=2))]


def test_an_ended_case_does_not_wait(ledger: Ledger) -> None:
    case_id = received(ledger)
    ledger.cases.advance(case_id, CaseState.RECEIVING, CaseState.FAILED)
    assert ledger.waiting_cases() == []


def test_a_delivery_waits_unless_it_is_a_mail_that_is_deferred_or_a_pacs_that_has_to_confirm(ledger: Ledger, clock: Clock) -> None:
    case_id = delivering(ledger, email=None, main=None)
    assert ledger.waiting_cases() == [WaitingCase(case_id, CaseState.DELIVERING, T0, "email")]
    assert ledger.deliveries.begin(case_id, "email", lease_s=60)
    later = clock.now + timedelta(minutes=15)
    ledger.deliveries.release(case_id, "email", why="its place", not_before=later, counts=False)
    assert ledger.waiting_cases() == [WaitingCase(case_id, CaseState.DELIVERING, T0, "main")]
    assert ledger.deliveries.begin(case_id, "main", lease_s=60)
    ledger.deliveries.release(case_id, "main", why="no connection", not_before=later, counts=False)
    assert ledger.waiting_cases() == [WaitingCase(case_id, CaseState.DELIVERING, T0, "main")]
    assert ledger.deliveries.begin(case_id, "main", lease_s=60)
    ledger.deliveries.end(case_id, "main", DeliveryState.SENT, detail="")
    assert ledger.waiting_cases() == []
    clock.now = later  # the worker that should send the mail does not
    assert [waiting.destination for waiting in ledger.waiting_cases()] == ["email"]


def test_operators_get_one_mail_when_cases_wait_and_one_when_they_go_on(ledger: Ledger, clock: Clock) -> None:
    sent: list[Notice] = []
    server = {"answers": True}

    def mail(notice: Notice) -> bool:
        sent.append(notice)
        return server["answers"]

    seconds = [0.0]
    watch = WaitingCasesWatch(ledger, Settings(), mail, lambda: seconds[0])
    case_id = queued(ledger)
    assert not watch.step(clock.now)
    clock.forward(8 * 60)
    for _ in range(3):
        assert watch.step(clock.now)
    assert [(notice.state, notice.begins) for notice in sent] == [(CaseState.QUEUED, True)]
    assert case_id in sent[0].sentence
    assert "8 minutes" in sent[0].sentence
    assert "queue prepare" in sent[0].sentence
    ledger.cases.advance(case_id, CaseState.QUEUED, CaseState.PREPARED)
    assert not watch.step(clock.now)
    assert [(notice.state, notice.begins) for notice in sent[1:]] == [(CaseState.QUEUED, False)]

    server["answers"] = False
    clock.forward(8 * 60)
    watch.step(clock.now)
    watch.step(clock.now)
    assert len(sent) == 3  # the server took no mail: another attempt after a minute
    seconds[0] += 60.0
    watch.step(clock.now)
    assert len(sent) == 4
    server["answers"] = True
    ledger.cases.advance(case_id, CaseState.PREPARED, CaseState.DETECTED)
    seconds[0] += 60.0
    watch.step(clock.now)
    assert len(sent) == 4  # nobody knows that it began, so nobody needs to know that it is over
