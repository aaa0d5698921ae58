"""Whatever moves a delivery, from every state, against a written-out expectation and through the table, on both databases."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

import ledger as package
from corewatch import states
from corewatch.errors import IllegalTransition
from corewatch.mail_throttle import MailLimits
from corewatch.states import DELIVERY_STARTS, DELIVERY_TRANSITIONS, CaseState, DeliveryState
from corewatch.storage_commitment import CommitmentReport
from ledger.store import Ledger
from ledger.tables import cases, deliveries
from tests.support.ledger import Clock, delivering

S = DeliveryState
LONG = timedelta(hours=1)


class Target:
    """One delivery that was put into a state by hand, its worker's lease still running."""

    def __init__(self, ledger: Ledger, state: DeliveryState) -> None:
        self.ledger = ledger
        self.name = f"to-{state}"
        self.case_id = delivering(ledger, f"5.{list(S).index(state)}", **{self.name: None})
        self.set(state=state, lease_until=ledger.clock() + LONG, attempts=1, digest=None)

    def set(self, **columns: object) -> None:
        with self.ledger.deliveries._database.transaction() as connection:
            connection.execute(update(deliveries).where(deliveries.c.case_id == self.case_id).values(**columns))

    @property
    def state(self) -> DeliveryState:
        [found] = self.ledger.deliveries.of(self.case_id)
        return found.state


def begin(it: Target) -> None:
    it.ledger.deliveries.begin(it.case_id, it.name, lease_s=60)


def begin_after_the_lease(it: Target) -> None:
    it.set(lease_until=it.ledger.clock() - LONG)
    begin(it)


def take_over(it: Target) -> None:
    it.ledger.deliveries.begin(it.case_id, it.name, lease_s=60, takeover=True)


def end_as(state: DeliveryState) -> Callable[[Target], None]:
    def end(it: Target) -> None:
        it.ledger.deliveries.end(it.case_id, it.name, state, detail="")

    return end


def release(it: Target) -> None:
    it.ledger.deliveries.release(it.case_id, it.name, why="", not_before=it.ledger.clock(), counts=True)


def repost(it: Target) -> None:
    it.set(lease_until=it.ledger.clock() - LONG)
    [found] = it.ledger.deliveries.of(it.case_id)
    it.ledger.deliveries.repost(found)


def plan_with(skip: str | None) -> Callable[[Target], None]:
    def plan(it: Target) -> None:
        with it.ledger.deliveries._database.transaction() as connection:
            connection.execute(update(cases).where(cases.c.case_id == it.case_id).values(state=CaseState.DETECTED))
        assert it.ledger.deliveries.plan(it.case_id, CaseState.DETECTED, CaseState.DELIVERING, {it.name: skip})

    return plan


def join_a_digest(it: Target) -> None:
    """Another delivery of this destination is decided about: it takes along what waits."""
    leader = delivering(it.ledger, f"6.{list(S).index(it.state)}", **{it.name: None})
    assert it.ledger.deliveries.begin(leader, it.name, lease_s=60)
    it.ledger.digests.decide(leader, it.name, MailLimits(2, LONG, LONG), alerts_apart=False, lease_s=60)


def resume_its_digest(it: Target) -> None:
    it.set(digest="d")
    it.ledger.digests.resume("d", it.case_id, it.name, lease_s=60)


def release_its_digest(it: Target) -> None:
    it.set(digest="d")
    it.ledger.digests.release("d", it.case_id, it.name, why="", not_before=it.ledger.clock(), counts=True)


def ask_for_commitment(it: Target) -> None:
    it.ledger.commitment_requests_sent.open(f"2.25.{it.name}", it.case_id, it.name, ["1.1"], it.ledger.clock() + LONG)
    it.ledger.commitment_requests_sent.wait(f"2.25.{it.name}", "")


def commitment_is_answered(it: Target) -> None:
    it.ledger.commitment_requests_sent.open(f"2.25.{it.name}", it.case_id, it.name, ["1.1"], it.ledger.clock() + LONG)
    it.ledger.commitment_requests_sent.report(CommitmentReport(f"2.25.{it.name}", ()))


def commitment_is_not_answered(it: Target) -> None:
    it.set(lease_until=it.ledger.clock())
    it.ledger.commitment_requests_sent.expire(it.ledger.clock())


Moves = Mapping[DeliveryState, DeliveryState]
MOVES: dict[Callable[[Target], None], Moves] = {
    begin: {S.PENDING: S.SENDING},
    begin_after_the_lease: {S.PENDING: S.SENDING, S.SENDING: S.SENDING},
    take_over: {S.PENDING: S.SENDING, S.SENDING: S.SENDING},
    end_as(S.SENT): {S.SENDING: S.SENT},
    end_as(S.REFUSED): {S.SENDING: S.REFUSED},
    end_as(S.SKIPPED): {S.SENDING: S.SKIPPED},
    release: {S.SENDING: S.PENDING},
    repost: {S.PENDING: S.PENDING, S.SENDING: S.PENDING},
    plan_with(None): {S.PENDING: S.PENDING, S.REFUSED: S.PENDING},
    plan_with("does not apply"): {S.PENDING: S.SKIPPED, S.REFUSED: S.SKIPPED},
    join_a_digest: {S.PENDING: S.SENDING},
    resume_its_digest: {S.PENDING: S.SENDING, S.SENDING: S.SENDING},
    release_its_digest: {S.SENDING: S.PENDING},
    ask_for_commitment: {S.SENDING: S.AWAITING},
    commitment_is_answered: {S.AWAITING: S.PENDING},
    commitment_is_not_answered: {S.AWAITING: S.PENDING},
}
"""What moves a delivery -> from each state, the state that it is in afterwards; from every other one it is not moved."""

ALL = pytest.mark.parametrize("act", MOVES, ids=[act.__name__ + str(n) for n, act in enumerate(MOVES)])


@ALL
def test_from_every_state(ledger: Ledger, act: Callable[[Target], None]) -> None:
    found = {}
    for state in S:
        it = Target(ledger, state)
        act(it)
        found[state] = it.state
    assert found == {state: MOVES[act].get(state, state) for state in S}


@ALL
def test_without_its_cell_in_the_table_it_raises_and_moves_nothing(
    ledger: Ledger, act: Callable[[Target], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for before, after in MOVES[act].items():
        it = Target(ledger, before)
        with monkeypatch.context() as patched:
            patched.setitem(states.DELIVERY_TRANSITIONS, before, DELIVERY_TRANSITIONS[before] - {after})
            with pytest.raises(IllegalTransition, match=f"from {before} to {after}"):
                act(it)
        assert it.state is before


def test_no_delivery_starts_in_a_state_that_is_not_a_start(ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    case_id = delivering(ledger, "7.1", first=None)
    for destinations, state in (({"second": None}, S.PENDING), ({"second": "does not apply"}, S.SKIPPED)):
        with monkeypatch.context() as patched:
            patched.setattr(states, "DELIVERY_STARTS", DELIVERY_STARTS - {state})
            with pytest.raises(IllegalTransition, match=f"start as {state}"):
                ledger.deliveries.plan(case_id, CaseState.DELIVERING, CaseState.FAILED, destinations)
    assert [d.destination for d in ledger.deliveries.of(case_id)] == ["first"]
    with ledger.deliveries._database.transaction() as connection:
        connection.execute(update(cases).values(state=CaseState.DETECTED, alert=True))
    ledger.deliveries.plan(case_id, CaseState.DETECTED, CaseState.DELIVERING, {}, escalation=[timedelta(0)])
    monkeypatch.setattr(states, "DELIVERY_STARTS", frozenset())
    with pytest.raises(IllegalTransition, match="start as pending"):
        ledger.alerts.fire(clock.now)


def test_the_table_holds_these_moves_and_no_others() -> None:
    made = {(before, after) for moves in MOVES.values() for before, after in moves.items()}
    assert made == {(before, after) for before in S for after in DELIVERY_TRANSITIONS[before]}


def test_nothing_else_in_the_ledger_writes_a_state() -> None:
    folder = Path(package.__file__).parent
    writers = {path.name for path in folder.glob("*.py") if re.search(r"\b(insert|update)\(deliveries\)", path.read_text())}
    assert writers == {"delivery_states.py", "clock_shift.py"}
    assert "DeliveryState" not in (folder / "clock_shift.py").read_text()


def test_a_digest_that_is_resumed_leaves_what_was_ended_meanwhile(ledger: Ledger) -> None:
    """Between the look for its members and their claim another worker may have ended one of them."""
    from ledger import digests

    it = Target(ledger, S.SENT)
    it.set(digest="d")
    database = ledger.deliveries._database
    with database.transaction() as connection:
        digests._claim(connection, [it.case_id], it.name, "d", ledger.clock() + LONG, None)
    assert it.state is S.SENT
