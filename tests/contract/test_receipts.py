"""What every memory of mails promises: the one in memory, and the ledger's on both databases."""

from __future__ import annotations

from typing import Any

import pytest

from corewatch.letters import Event, LetterKind, LetterState, Receipt
from ledger.store import Ledger
from outputs.destinations.receipts import MemoryReceipts, Receipts
from tests.support.ledger import Clock, delivering


@pytest.fixture(params=["memory", "ledger"])
def receipts(request: Any, ledger: Ledger) -> Receipts:
    return MemoryReceipts() if request.param == "memory" else ledger.letters


def event(about: str, key: str = "k1", kind: LetterKind = LetterKind.ALERT) -> Event:
    return Event(key, about, "email", kind)


def test_states_of_recipients(receipts: Receipts, ledger: Ledger) -> None:
    one = event(delivering(ledger, email=None))
    assert receipts.known(one) == {}
    assert receipts.begin(one, "<m>", ["a@x", "b@x"]) is None
    receipts.end(one, ["c@x"], LetterState.REFUSED, "550 no such user")
    assert receipts.known(one) == {
        "a@x": Receipt(LetterState.SENDING, 1),
        "b@x": Receipt(LetterState.SENDING, 1),
        "c@x": Receipt(LetterState.REFUSED, 0),
    }
    receipts.end(one, ["a@x"], LetterState.ACCEPTED)
    receipts.begin(one, "<m>", ["b@x"])
    assert receipts.known(one)["a@x"] == Receipt(LetterState.ACCEPTED, 1)
    assert receipts.known(one)["b@x"] == Receipt(LetterState.SENDING, 2)
    assert receipts.known(event(one.about, "k2")) == {}


def test_the_ledger_keeps_them_and_writes_them_down(url: str, ledger: Ledger, clock: Clock) -> None:
    case_id = delivering(ledger, email=None)
    ledger.letters.begin(event(case_id), "<m>", ["a@x"])
    clock.forward(3)
    ledger.letters.end(event(case_id), ["a@x"], LetterState.ACCEPTED)
    other = Ledger(url, clock)
    (row,) = other.letters.of(case_id)
    assert (row.recipient, row.message_id, row.state, row.kind) == ("a@x", "<m>", LetterState.ACCEPTED, LetterKind.ALERT)
    assert row.begun_at is not None
    assert row.ended_at is not None
    assert (row.ended_at - row.begun_at).total_seconds() == 3
    events = [(line.event, line.detail["to"]) for line in other.cases.history(case_id) if line.event.startswith("letter.")]
    assert events == [("letter.sending", ["a@x"]), ("letter.accepted", ["a@x"])]
    other.close()


def test_a_digest_is_no_case_and_is_written_down_all_the_same(ledger: Ledger) -> None:
    digest = event("d-1", kind=LetterKind.DIGEST)
    ledger.letters.begin(digest, "<m>", ["a@x"])
    assert [row.about for row in ledger.letters.of("d-1")] == ["d-1"]
