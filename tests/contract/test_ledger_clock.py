"""The system's clock is set: every lease and wait lasts as long as it was meant to, on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest

from corewatch.mail_throttle import MailLimits, SendMode
from corewatch.messages import Work
from corewatch.states import CaseState, Stage
from ledger.digests import Decision
from ledger.store import Ledger
from tests.support.ledger import Clock, delivering, queued

HOUR = timedelta(hours=1)


@pytest.mark.parametrize("jump", [HOUR, -HOUR, timedelta(days=400), timedelta(days=-400)])
def test_a_lease_goes_on_over_a_jump(ledger: Ledger, clock: Clock, jump: timedelta) -> None:
    case_id = queued(ledger)
    assert ledger.cases.begin(case_id, CaseState.QUEUED, holder="host/1/1", lease_s=60)
    clock.forward(20)
    clock.forward(jump.total_seconds())
    ledger.clock_shift.shift(jump, clock.now)
    assert ledger.cases.overdue(clock.now) == []
    assert ledger.cases.begin(case_id, CaseState.QUEUED, holder="host/2/2", lease_s=60) is None, "the first one is at work"
    clock.forward(39)
    assert ledger.cases.overdue(clock.now) == []
    clock.forward(2)
    assert [c.case_id for c in ledger.cases.overdue(clock.now)] == [case_id]


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_what_was_overdue_stays_overdue(ledger: Ledger, clock: Clock, jump: timedelta) -> None:
    case_id = queued(ledger)
    clock.forward(500)
    assert [c.case_id for c in ledger.cases.overdue(clock.now)] == [case_id]
    clock.forward(jump.total_seconds())
    ledger.clock_shift.shift(jump, clock.now)
    assert [c.case_id for c in ledger.cases.overdue(clock.now)] == [case_id]


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_delivery_that_waits_is_tried_when_it_was_to_be(ledger: Ledger, clock: Clock, jump: timedelta) -> None:
    case_id = delivering(ledger, pacs=None)
    work = Work(Stage.DELIVER, case_id, "pacs")
    for posted in ledger.outbox.due(clock.now):
        ledger.outbox.mark_published(posted)
    assert ledger.deliveries.begin(case_id, "pacs", lease_s=60)
    later = clock.now + timedelta(seconds=30)
    assert ledger.deliveries.release(case_id, "pacs", why="away", not_before=later, counts=False)
    clock.forward(10)
    clock.forward(jump.total_seconds())
    ledger.clock_shift.shift(jump, clock.now)
    clock.forward(19)
    assert [p.work for p in ledger.outbox.due(clock.now)] == []
    clock.forward(2)
    assert [p.work for p in ledger.outbox.due(clock.now)] == [work]
    assert ledger.deliveries.overdue(clock.now) == []
    clock.forward(125)
    assert [d.destination for d in ledger.deliveries.overdue(clock.now)] == ["pacs"]


def test_a_clock_that_was_set_back_while_nothing_ran_is_noticed_once(ledger: Ledger, clock: Clock) -> None:
    queued(ledger)
    assert ledger.clock_shift.set_back_meanwhile(clock.now) == timedelta(0)
    clock.forward(-30)
    assert ledger.clock_shift.set_back_meanwhile(clock.now) == timedelta(0), "clocks of several hosts differ by as much"
    clock.forward(30 - 3600)
    jump = ledger.clock_shift.set_back_meanwhile(clock.now)
    assert jump == -HOUR
    ledger.clock_shift.shift(jump, clock.now)
    assert ledger.clock_shift.set_back_meanwhile(clock.now) == timedelta(0)


def test_the_lease_of_posted_work_is_a_setting(url: str, clock: Clock) -> None:
    ledger = Ledger(url, clock, lease_s=7)
    try:
        queued(ledger)
        clock.forward(6)
        assert ledger.cases.overdue(clock.now) == []
        clock.forward(2)
        [case] = ledger.cases.overdue(clock.now)
        assert ledger.cases.repost(case)
        assert ledger.cases.overdue(clock.now) == [], "the next look comes later"
    finally:
        ledger.close()


@pytest.mark.parametrize("jump", [HOUR, -HOUR, timedelta(days=-400)])
def test_places_among_the_mails_of_the_hour_go_along(ledger: Ledger, clock: Clock, jump: timedelta) -> None:
    limits = MailLimits(2, timedelta(minutes=15), timedelta(hours=12))
    case_id = delivering(ledger, email=None)
    assert ledger.deliveries.begin(case_id, "email", lease_s=60)

    def decide(about: str) -> Decision:
        return ledger.digests.decide(about, "email", limits, alerts_apart=True, lease_s=60)

    assert [decide(about).verdict.mode for about in ("first", "second")] == [SendMode.ALONE, SendMode.ALONE]
    clock.forward(60)
    clock.forward(jump.total_seconds())
    ledger.clock_shift.shift(jump, clock.now)
    assert decide(case_id).verdict.until == clock.now + HOUR - timedelta(seconds=60)
