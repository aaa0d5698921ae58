"""What the ledger promises of storage commitment, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from datetime import timedelta

import pytest

from corewatch.messages import Work
from corewatch.states import CaseState, DeliveryState, Stage
from corewatch.storage_commitment import CommitmentFailure, CommitmentReport, InstanceReference
from corewatch.stored_objects import StoredObject
from ledger.store import Ledger
from tests.support.ledger import Clock, delivering, queued

DAY = timedelta(hours=24)
CT = "1.2.840.10008.5.1.4.1.1.2"
REFERENCES = (InstanceReference(CT, "1.1"), InstanceReference(CT, "1.2"))


def stored(ledger: Ledger, transaction_uid: str = "2.25.1") -> str:
    """A delivery whose objects are stored and that has asked for commitment."""
    case_id = delivering(ledger, pacs=None)
    drain(ledger)
    assert ledger.deliveries.begin(case_id, "pacs", lease_s=60)
    ledger.commitment_requests_sent.open(transaction_uid, case_id, "pacs", ["1.1", "1.2"], ledger.clock() + DAY)
    return case_id


def drain(ledger: Ledger) -> list[Work]:
    due = ledger.outbox.due(ledger.clock())
    for posted in due:
        ledger.outbox.mark_published(posted)
    return [posted.work for posted in due]


def state(ledger: Ledger, case_id: str) -> DeliveryState:
    [delivery] = ledger.deliveries.of(case_id)
    return delivery.state


def test_a_delivery_waits_and_is_woken_by_the_answer(ledger: Ledger) -> None:
    case_id = stored(ledger)
    assert ledger.commitment_requests_sent.wait("2.25.1", "waits")
    assert state(ledger, case_id) is DeliveryState.AWAITING
    case = ledger.cases.get(case_id)
    assert case is not None
    assert case.state is CaseState.DELIVERING
    assert ledger.deliveries.begin(case_id, "pacs", lease_s=60, takeover=True) is None, "a message that comes twice changes nothing"
    assert drain(ledger) == []
    assert ledger.commitment_requests_sent.report(
        CommitmentReport("2.25.1", REFERENCES[:1], (CommitmentFailure(REFERENCES[1], 0x0112),))
    )
    assert state(ledger, case_id) is DeliveryState.PENDING
    assert drain(ledger) == [Work(Stage.DELIVER, case_id, "pacs")]
    [asked] = ledger.commitment_requests_sent.of(case_id, "pacs")
    assert (asked.instances, asked.committed, asked.failed) == (("1.1", "1.2"), frozenset({"1.1"}), (("1.2", 0x0112),))


def test_an_answer_that_is_faster_than_we_are(ledger: Ledger) -> None:
    """It comes while the delivery is still `sending`."""
    case_id = stored(ledger)
    assert ledger.commitment_requests_sent.report(CommitmentReport("2.25.1", REFERENCES))
    assert state(ledger, case_id) is DeliveryState.SENDING
    assert drain(ledger) == []
    assert not ledger.commitment_requests_sent.wait("2.25.1", "waits")
    assert state(ledger, case_id) is DeliveryState.PENDING
    assert drain(ledger) == [Work(Stage.DELIVER, case_id, "pacs")]


def test_waiting_is_no_failed_attempt(ledger: Ledger) -> None:
    case_id = stored(ledger)
    ledger.commitment_requests_sent.wait("2.25.1", "waits")
    [delivery] = ledger.deliveries.of(case_id)
    assert delivery.attempts == 0


def test_an_answer_counts_once_and_a_strangers_not_at_all(ledger: Ledger) -> None:
    case_id = stored(ledger)
    ledger.commitment_requests_sent.wait("2.25.1", "waits")
    assert not ledger.commitment_requests_sent.report(CommitmentReport("2.25.999", REFERENCES))
    assert state(ledger, case_id) is DeliveryState.AWAITING
    assert ledger.commitment_requests_sent.report(CommitmentReport("2.25.1", REFERENCES))
    assert not ledger.commitment_requests_sent.report(
        CommitmentReport("2.25.1", (), tuple(CommitmentFailure(r, 0x0110) for r in REFERENCES))
    )
    [asked] = ledger.commitment_requests_sent.of(case_id, "pacs")
    assert asked.committed == {"1.1", "1.2"}
    assert len(drain(ledger)) == 1


def test_silence_is_looked_at_when_the_time_is_over(ledger: Ledger, clock: Clock) -> None:
    case_id = stored(ledger)
    ledger.commitment_requests_sent.wait("2.25.1", "waits")
    clock.forward(24 * 3600 - 1)
    assert ledger.commitment_requests_sent.expire(clock.now) == 0
    assert ledger.deliveries.overdue(clock.now) == [], "nothing to post again: the PACS has its time"
    clock.forward(1)
    assert ledger.commitment_requests_sent.expire(clock.now) == 1
    assert ledger.commitment_requests_sent.expire(clock.now) == 0
    assert state(ledger, case_id) is DeliveryState.PENDING
    assert drain(ledger) == [Work(Stage.DELIVER, case_id, "pacs")]


def test_an_operators_retry_begins_anew(ledger: Ledger, clock: Clock) -> None:
    case_id = stored(ledger)
    assert ledger.deliveries.end(case_id, "pacs", DeliveryState.REFUSED, detail="no answer")
    clock.forward(1)
    assert ledger.cases.retry(case_id) is Stage.RENDER
    ledger.deliveries.plan(case_id, CaseState.DETECTED, CaseState.DELIVERING, {"pacs": None})
    assert ledger.commitment_requests_sent.of(case_id, "pacs") == []


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_clock_that_is_set_changes_no_patience(ledger: Ledger, clock: Clock, jump: float) -> None:
    case_id = stored(ledger)
    ledger.commitment_requests_sent.wait("2.25.1", "waits")
    clock.forward(60 + jump)
    ledger.clock_shift.shift(timedelta(seconds=jump), clock.now)
    [asked] = ledger.commitment_requests_sent.of(case_id, "pacs")
    assert asked.deadline - clock.now == DAY - timedelta(seconds=60)
    assert ledger.commitment_requests_sent.expire(asked.deadline - timedelta(seconds=1)) == 0
    assert ledger.commitment_requests_sent.expire(asked.deadline) == 1


def test_what_others_asked_for_is_kept_until_it_is_over(ledger: Ledger, clock: Clock) -> None:
    owed = ledger.commitment_requests_received
    assert owed.add("2.25.7", "MODALITY", "10.0.0.7", REFERENCES, clock.now)
    assert not owed.add("2.25.7", "MODALITY", "10.0.0.7", REFERENCES, clock.now), "asked twice is asked once"
    assert owed.add("2.25.7", "OTHER", "10.0.0.8", REFERENCES[:1], clock.now), "transaction UIDs are the asker's own"
    mine = next(o for o in owed.due(clock.now) if o.peer_ae_title == "MODALITY")
    assert (mine.references, mine.attempts) == (REFERENCES, 0)
    owed.postpone(mine, clock.now + timedelta(seconds=10), "away")
    assert [o.peer_ae_title for o in owed.due(clock.now)] == ["OTHER"]
    clock.forward(10)
    again = next(o for o in owed.due(clock.now) if o.peer_ae_title == "MODALITY")
    assert again.attempts == 1
    owed.end(again, "answered", "2 objects committed")
    assert [o.peer_ae_title for o in owed.due(clock.now)] == ["OTHER"]
    assert owed.add("2.25.7", "MODALITY", "10.0.0.7", REFERENCES, clock.now), "asked again after the answer is answered again"


def test_what_is_over_is_forgotten_in_time(ledger: Ledger, clock: Clock) -> None:
    owed = ledger.commitment_requests_received
    for title in ("ANSWERED", "LATER", "WAITS"):
        owed.add("2.25.7", title, "10.0.0.7", REFERENCES, clock.now)
    by_title = {o.peer_ae_title: o for o in owed.due(clock.now)}
    start = clock.now
    owed.end(by_title["ANSWERED"], "answered", "2 objects committed")
    clock.forward(100)
    owed.end(by_title["LATER"], "given_up", "away")
    clock.forward(5 * DAY.total_seconds())
    assert owed.purge(start + timedelta(seconds=50)) == 1
    assert owed.purge(start + timedelta(seconds=50)) == 0
    assert [o.peer_ae_title for o in owed.due(clock.now)] == ["WAITS"], "what is not over stays, however old it is"
    assert owed.add("2.25.7", "ANSWERED", "10.0.0.7", REFERENCES, clock.now)
    assert owed.purge(clock.now) == 1


def test_only_what_was_stored_is_known(ledger: Ledger) -> None:
    queued(ledger, "1.2")
    kept = ledger.commitment_requests_received.stored_instances(["1.2.0", "1.2.2", "9.9", *(f"8.{n}" for n in range(1200))])
    assert set(kept) == {"1.2.0", "1.2.2"}
    assert kept["1.2.0"].sop_class_uid == CT
    assert kept["1.2.0"].path.endswith(".dcm")


def test_an_object_that_the_pacs_has_not_kept_is_sent_again(ledger: Ledger) -> None:
    case_id = stored(ledger)
    for uid in ("1.1", "1.2"):
        ledger.stored_objects.add(case_id, "pacs", uid, StoredObject("00", 0))
    assert ledger.commitment_requests_sent.report(
        CommitmentReport("2.25.1", REFERENCES[:1], (CommitmentFailure(REFERENCES[1], 0x0112),))
    )
    assert set(ledger.stored_objects.known(case_id, "pacs")) == {"1.1"}
