"""What is done with a mail that was on its way before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from corewatch.mail_receipts import MOST_COPIES, MUST_ARRIVE, MailKind, MailReceipt, MailReceiptState, NextStep, next_step

KINDS = st.sampled_from(list(MailKind))


@given(KINDS)
def test_what_nobody_has_is_sent(kind: MailKind) -> None:
    assert next_step(None, kind) is NextStep.SEND
    assert next_step(MailReceipt(MailReceiptState.REFUSED, 0), kind) is NextStep.SEND


@given(KINDS, st.integers(0, 9))
def test_what_was_taken_or_given_up_is_left(kind: MailKind, attempts: int) -> None:
    for state in (MailReceiptState.ACCEPTED, MailReceiptState.UNKNOWN):
        assert next_step(MailReceipt(state, attempts), kind) is NextStep.LEAVE


@given(KINDS, st.lists(st.sampled_from(["taken", "refused", "lost"]), max_size=30))
def test_copies_are_few_and_nothing_is_both_unsent_and_left(kind: MailKind, server: list[str]) -> None:
    """Any server: it takes a message, refuses it, or breaks off so that nobody knows."""
    receipt: MailReceipt | None = None
    perhaps_taken = 0
    for answer in server:
        step = next_step(receipt, kind)
        if step in (NextStep.LEAVE, NextStep.GIVE_UP):
            assert perhaps_taken > 0, "left, although no server can have it"
            break
        assert (step is NextStep.REPEAT) is (perhaps_taken > 0), "a copy is marked, and nothing else"
        perhaps_taken += answer != "refused"
        state = {"taken": MailReceiptState.ACCEPTED, "refused": MailReceiptState.REFUSED, "lost": MailReceiptState.SENDING}[answer]
        receipt = MailReceipt(state, perhaps_taken)
    assert perhaps_taken <= (MOST_COPIES if kind in MUST_ARRIVE else 1)


def test_an_alert_is_rather_twice_than_never() -> None:
    lost = MailReceipt(MailReceiptState.SENDING, 1)
    assert next_step(lost, MailKind.ALERT) is NextStep.REPEAT
    assert next_step(lost, MailKind.RESULT) is NextStep.GIVE_UP
