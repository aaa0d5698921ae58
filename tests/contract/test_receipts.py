"""What every memory of mails promises: the one in memory, and the ledger's on both databases."""

from __future__ import annotations

from typing import Any

import pytest

from corewatch.mail_receipts import MailEvent, MailKind, MailReceipt, MailReceiptState
from ledger.store import Ledger
from outputs.mail.receipts import MailReceipts, MemoryMailReceipts
from tests.support.ledger import Clock, delivering


@pytest.fixture(params=["memory", "ledger"])
def receipts(request: Any, ledger: Ledger) -> MailReceipts:
    return MemoryMailReceipts() if request.param == "memory" else ledger.mail_receipts


def event(about: str, key: str = "k1", kind: MailKind = MailKind.ALERT) -> MailEvent:
    return MailEvent(key, about, "email", kind)


def test_states_of_recipients(receipts: MailReceipts, ledger: Ledger) -> None:
    one = event(delivering(ledger, email=None))
    assert receipts.known(one) == {}
    assert receipts.begin(one, "<m>", ["a@x", "b@x"]) is None
    receipts.refuse(one, "c@x", "550 no such user", offered=False)
    assert receipts.known(one) == {
        "a@x": MailReceipt(MailReceiptState.SENDING, 1, "<m>"),
        "b@x": MailReceipt(MailReceiptState.SENDING, 1, "<m>"),
        "c@x": MailReceipt(MailReceiptState.REFUSED, 0),
    }
    receipts.end(one, ["a@x"], MailReceiptState.ACCEPTED)
    receipts.begin(one, "<m>", ["b@x"])
    assert receipts.known(one)["a@x"] == MailReceipt(MailReceiptState.ACCEPTED, 1, "<m>")
    assert receipts.known(one)["b@x"] == MailReceipt(MailReceiptState.SENDING, 2, "<m>")
    assert receipts.known(event(one.about, "k2")) == {}


def test_who_has_a_digest_has_heard_of_what_it_covers(receipts: MailReceipts, ledger: Ledger) -> None:
    digest = event("d-1", "k9", MailKind.DIGEST)
    cases = [event(delivering(ledger, series=f"1.{n}", email=None), f"k{n}") for n in range(2)]
    receipts.begin(cases[0], "<alone>", ["a@x"])
    receipts.refuse(cases[0], "a@x", "550", offered=True)
    receipts.begin(digest, "<d>", ["a@x", "b@x"])
    receipts.refuse(digest, "b@x", "550", offered=True)
    receipts.end(digest, ["a@x"], MailReceiptState.ACCEPTED, covers=cases)
    assert receipts.known(cases[0]) == {"a@x": MailReceipt(MailReceiptState.ACCEPTED, 0, "<d>")}
    assert receipts.known(cases[1]) == {"a@x": MailReceipt(MailReceiptState.ACCEPTED, 0, "<d>")}
    assert receipts.known(digest)["b@x"] == MailReceipt(MailReceiptState.REFUSED, 0, "<d>")


def test_a_copy_that_was_refused_is_none_and_an_earlier_one_is_not_forgotten(receipts: MailReceipts, ledger: Ledger) -> None:
    one = event(delivering(ledger, email=None))
    receipts.begin(one, "<m>", ["a@x", "b@x"])  # and nobody knows
    receipts.refuse(one, "a@x", "450 not now", offered=False)
    receipts.begin(one, "<m>", ["b@x"])
    receipts.refuse(one, "b@x", "451 not now", offered=True)
    for recipient in ("a@x", "b@x"):
        assert receipts.known(one)[recipient] == MailReceipt(MailReceiptState.REFUSED, 1, "<m>")


def test_the_ledger_keeps_them_and_writes_them_down(url: str, ledger: Ledger, clock: Clock) -> None:
    case_id = delivering(ledger, email=None)
    ledger.mail_receipts.begin(event(case_id), "<m>", ["a@x"])
    clock.forward(3)
    ledger.mail_receipts.end(event(case_id), ["a@x"], MailReceiptState.ACCEPTED)
    other = Ledger(url, clock)
    (row,) = other.mail_receipts.of(case_id)
    assert (row.recipient, row.message_id, row.state, row.kind) == ("a@x", "<m>", MailReceiptState.ACCEPTED, MailKind.ALERT)
    assert row.begun_at is not None
    assert row.ended_at is not None
    assert (row.ended_at - row.begun_at).total_seconds() == 3
    events = [(line.event, line.detail["to"]) for line in other.cases.history(case_id) if line.event.startswith("letter.")]
    assert events == [("letter.sending", ["a@x"]), ("letter.accepted", ["a@x"])]
    other.close()


def test_a_digest_is_no_case_and_is_written_down_all_the_same(ledger: Ledger) -> None:
    digest = event("d-1", kind=MailKind.DIGEST)
    ledger.mail_receipts.begin(digest, "<m>", ["a@x"])
    assert [row.about for row in ledger.mail_receipts.of("d-1")] == ["d-1"]
