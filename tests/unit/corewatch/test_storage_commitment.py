"""What follows from the answers of a PACS that was asked for storage commitment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corewatch.storage_commitment import (
    MAXIMUM_ROUNDS,
    CommitmentRequest,
    Committed,
    NotCommitted,
    SendAndRequest,
    next_commitment_step,
)

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
LATER, BEFORE = NOW + timedelta(hours=1), NOW - timedelta(seconds=1)
UIDS = ("1.1", "1.2", "1.3")


def asked(*committed: str, instances: tuple[str, ...] = UIDS, failed: tuple[tuple[str, int], ...] = ()) -> CommitmentRequest:
    return CommitmentRequest("2.25.1", instances, LATER, frozenset(committed), failed)


def unanswered(deadline: datetime = LATER) -> CommitmentRequest:
    return CommitmentRequest("2.25.2", UIDS, deadline)


def test_nothing_was_asked_yet() -> None:
    assert next_commitment_step([], NOW) == SendAndRequest()


def test_all_are_committed() -> None:
    assert next_commitment_step([asked(*UIDS)], NOW) == Committed(3)


def test_what_is_missing_is_sent_again_and_what_is_there_is_not() -> None:
    first = asked("1.1", "1.3", failed=(("1.2", 0x0112),))
    assert next_commitment_step([first], NOW) == SendAndRequest(frozenset({"1.1", "1.3"}))
    assert next_commitment_step([first, asked("1.2", instances=("1.2",))], NOW) == Committed(3)


def test_a_request_that_did_not_get_through_is_made_again() -> None:
    assert next_commitment_step([unanswered()], NOW) == SendAndRequest()


def test_silence_ends_at_an_operator() -> None:
    end = next_commitment_step([unanswered(BEFORE)], NOW)
    assert isinstance(end, NotCommitted)
    assert "did not say in time whether it keeps 3" in end.why
    assert "listener.peers" in end.why


@pytest.mark.parametrize(("reason", "words"), [(0x0122, "SOP class"), (0x0119, "do not fit"), (0x4711, "unknown reason (0x4711)")])
def test_a_lasting_refusal_is_not_tried_again(reason: int, words: str) -> None:
    end = next_commitment_step([asked("1.1", failed=(("1.2", 0x0112), ("1.3", reason)))], NOW)
    assert isinstance(end, NotCommitted)
    assert words in end.why


def test_an_object_that_the_answer_does_not_name_is_not_committed() -> None:
    assert next_commitment_step([asked("1.1", "1.2")], NOW) == SendAndRequest(frozenset({"1.1", "1.2"}))


def test_a_commitment_for_something_else_counts_for_nothing() -> None:
    assert next_commitment_step([asked("9.9", *UIDS[:2])], NOW) == SendAndRequest(frozenset(UIDS[:2]))


def test_rounds_are_bounded() -> None:
    refused = asked(failed=tuple((uid, 0x0112) for uid in UIDS))
    for rounds in range(1, MAXIMUM_ROUNDS):
        assert isinstance(next_commitment_step([refused] * rounds, NOW), SendAndRequest)
    end = next_commitment_step([refused] * MAXIMUM_ROUNDS, NOW)
    assert isinstance(end, NotCommitted)
    assert f"sent {MAXIMUM_ROUNDS} times" in end.why


_answers = st.one_of(st.none(), st.frozensets(st.sampled_from(UIDS)))


@given(st.lists(_answers, min_size=1, max_size=6), st.booleans())
def test_sent_only_when_every_object_was_committed(answers: list[frozenset[str] | None], late: bool) -> None:
    history = [CommitmentRequest(f"2.25.{n}", UIDS, BEFORE if late else LATER, answer) for n, answer in enumerate(answers)]
    committed = frozenset[str]().union(*(answer or () for answer in answers))
    step = next_commitment_step(history, NOW)
    assert isinstance(step, Committed) == (committed == set(UIDS))
    if isinstance(step, SendAndRequest):
        assert step.leave_out == committed, "neither twice nor forgotten"
