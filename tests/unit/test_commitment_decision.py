"""What follows from the answers of a PACS that was asked for storage commitment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corewatch.commitment import MOST_ROUNDS, Asked, Committed, NotCommitted, Send, judge

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
LATER, BEFORE = NOW + timedelta(hours=1), NOW - timedelta(seconds=1)
UIDS = ("1.1", "1.2", "1.3")


def asked(*committed: str, instances: tuple[str, ...] = UIDS, failed: tuple[tuple[str, int], ...] = ()) -> Asked:
    return Asked("2.25.1", instances, LATER, frozenset(committed), failed)


def unanswered(deadline: datetime = LATER) -> Asked:
    return Asked("2.25.2", UIDS, deadline)


def test_nothing_was_asked_yet() -> None:
    assert judge([], NOW) == Send()


def test_all_are_committed() -> None:
    assert judge([asked(*UIDS)], NOW) == Committed(3)


def test_what_is_missing_is_sent_again_and_what_is_there_is_not() -> None:
    first = asked("1.1", "1.3", failed=(("1.2", 0x0112),))
    assert judge([first], NOW) == Send(frozenset({"1.1", "1.3"}))
    assert judge([first, asked("1.2", instances=("1.2",))], NOW) == Committed(3)


def test_a_request_that_did_not_get_through_is_made_again() -> None:
    assert judge([unanswered()], NOW) == Send()


def test_silence_ends_at_an_operator() -> None:
    end = judge([unanswered(BEFORE)], NOW)
    assert isinstance(end, NotCommitted)
    assert "did not say in time whether it keeps 3" in end.why
    assert "listener.peers" in end.why


@pytest.mark.parametrize(("reason", "words"), [(0x0122, "SOP class"), (0x0119, "do not fit"), (0x4711, "unknown reason (0x4711)")])
def test_a_lasting_refusal_is_not_tried_again(reason: int, words: str) -> None:
    end = judge([asked("1.1", failed=(("1.2", 0x0112), ("1.3", reason)))], NOW)
    assert isinstance(end, NotCommitted)
    assert words in end.why


def test_an_object_that_the_answer_does_not_name_is_not_committed() -> None:
    assert judge([asked("1.1", "1.2")], NOW) == Send(frozenset({"1.1", "1.2"}))


def test_a_commitment_for_something_else_counts_for_nothing() -> None:
    assert judge([asked("9.9", *UIDS[:2])], NOW) == Send(frozenset(UIDS[:2]))


def test_rounds_are_bounded() -> None:
    refused = asked(failed=tuple((uid, 0x0112) for uid in UIDS))
    for rounds in range(1, MOST_ROUNDS):
        assert isinstance(judge([refused] * rounds, NOW), Send)
    end = judge([refused] * MOST_ROUNDS, NOW)
    assert isinstance(end, NotCommitted)
    assert f"sent {MOST_ROUNDS} times" in end.why


_answers = st.one_of(st.none(), st.frozensets(st.sampled_from(UIDS)))


@given(st.lists(_answers, min_size=1, max_size=6), st.booleans())
def test_sent_only_when_every_object_was_committed(answers: list[frozenset[str] | None], late: bool) -> None:
    history = [Asked(f"2.25.{n}", UIDS, BEFORE if late else LATER, answer) for n, answer in enumerate(answers)]
    committed = frozenset[str]().union(*(answer or () for answer in answers))
    step = judge(history, NOW)
    assert isinstance(step, Committed) == (committed == set(UIDS))
    if isinstance(step, Send):
        assert step.leave_out == committed, "neither twice nor forgotten"
