"""What is done with a mail that was on its way before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from corewatch.letters import MOST_COPIES, MUST_ARRIVE, LetterKind, LetterState, Next, Receipt, what_next

KINDS = st.sampled_from(list(LetterKind))


@given(KINDS)
def test_what_nobody_has_is_sent(kind: LetterKind) -> None:
    assert what_next(None, kind) is Next.SEND
    assert what_next(Receipt(LetterState.REFUSED, 0), kind) is Next.SEND


@given(KINDS, st.integers(0, 9))
def test_what_was_taken_or_given_up_is_left(kind: LetterKind, attempts: int) -> None:
    for state in (LetterState.ACCEPTED, LetterState.UNKNOWN):
        assert what_next(Receipt(state, attempts), kind) is Next.LEAVE


@given(KINDS, st.lists(st.sampled_from(["taken", "refused", "lost"]), max_size=30))
def test_copies_are_few_and_nothing_is_both_unsent_and_left(kind: LetterKind, server: list[str]) -> None:
    """Any server: it takes a message, refuses it, or breaks off so that nobody knows."""
    receipt: Receipt | None = None
    perhaps_taken = 0
    for answer in server:
        step = what_next(receipt, kind)
        if step in (Next.LEAVE, Next.GIVE_UP):
            assert perhaps_taken > 0, "left, although no server can have it"
            break
        assert (step is Next.REPEAT) is (perhaps_taken > 0), "a copy is marked, and nothing else"
        perhaps_taken += answer != "refused"
        state = {"taken": LetterState.ACCEPTED, "refused": LetterState.REFUSED, "lost": LetterState.SENDING}[answer]
        receipt = Receipt(state, perhaps_taken)
    assert perhaps_taken <= (MOST_COPIES if kind in MUST_ARRIVE else 1)


def test_an_alert_is_rather_twice_than_never() -> None:
    lost = Receipt(LetterState.SENDING, 1)
    assert what_next(lost, LetterKind.ALERT) is Next.REPEAT
    assert what_next(lost, LetterKind.RESULT) is Next.GIVE_UP
