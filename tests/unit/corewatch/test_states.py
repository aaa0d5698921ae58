"""The life of a case and of a delivery: both tables, cell by cell, against what is written out here."""

from __future__ import annotations

from itertools import pairwise

import pytest

from corewatch.errors import IllegalTransition
from corewatch.states import (
    DELIVERY_ENDS,
    DELIVERY_STARTS,
    DELIVERY_TRANSITIONS,
    ENDS,
    STAGE_OF,
    TRANSITIONS,
    WITHOUT_RESULT,
    CaseState,
    DeliveryState,
    Stage,
    check_delivery_start,
    check_delivery_transition,
    check_transition,
)

# before \ after:    rec que pre det dlg dld not fai sup
CASES = """
receiving             .   x   .   .   .   .   x   x   x
queued                .   .   x   .   .   .   x   x   x
prepared              .   x   .   x   .   .   x   x   x
detected              .   x   x   .   x   .   x   x   x
delivering            .   x   x   x   .   x   .   x   x
delivered             .   .   .   .   .   .   .   x   x
not_analysed          .   x   x   x   .   .   .   .   x
failed                .   x   x   x   x   .   x   .   x
superseded            .   .   .   .   .   .   .   .   .
"""

# before \ after:    pen sng awa sen ref ski
DELIVERIES = """
pending               x   x   .   .   .   x
sending               x   x   x   x   x   x
awaiting              x   .   .   .   .   .
sent                  .   .   .   .   .   .
refused               x   .   .   .   .   x
skipped               .   .   .   .   .   .
"""


def cells(written: str) -> list[tuple[str, str, bool]]:
    """(before, after, allowed) of a written table, whose columns are in the order of its rows."""
    rows = [line.split() for line in written.strip().splitlines()]
    return [(row[0], rows[n][0], cell == "x") for row in rows for n, cell in enumerate(row[1:])]


@pytest.mark.parametrize(("before", "after", "allowed"), cells(CASES))
def test_a_case_moves_as_written(before: str, after: str, allowed: bool) -> None:
    if allowed:
        check_transition(CaseState(before), CaseState(after))
    else:
        with pytest.raises(IllegalTransition, match=f"a case cannot go from {before} to {after}"):
            check_transition(CaseState(before), CaseState(after))


@pytest.mark.parametrize(("before", "after", "allowed"), cells(DELIVERIES))
def test_a_delivery_moves_as_written(before: str, after: str, allowed: bool) -> None:
    if allowed:
        check_delivery_transition(DeliveryState(before), DeliveryState(after))
    else:
        with pytest.raises(IllegalTransition, match=f"a delivery cannot go from {before} to {after}"):
            check_delivery_transition(DeliveryState(before), DeliveryState(after))


def test_the_written_tables_have_every_state_and_nothing_else() -> None:
    assert [before for before, after, _ in cells(CASES) if after == "queued"] == [str(state) for state in CaseState]
    assert [before for before, after, _ in cells(DELIVERIES) if after == "sent"] == [str(state) for state in DeliveryState]
    assert {(b, a) for b, a, allowed in cells(CASES) if allowed} == {(b, a) for b in TRANSITIONS for a in TRANSITIONS[b]}
    assert {(b, a) for b, a, allowed in cells(DELIVERIES) if allowed} == {
        (b, a) for b in DELIVERY_TRANSITIONS for a in DELIVERY_TRANSITIONS[b]
    }


@pytest.mark.parametrize("state", list(DeliveryState))
def test_a_delivery_starts_pending_or_skipped(state: DeliveryState) -> None:
    if state in {DeliveryState.PENDING, DeliveryState.SKIPPED}:
        check_delivery_start(state)
    else:
        with pytest.raises(IllegalTransition, match=f"a delivery cannot start as {state}"):
            check_delivery_start(state)
    assert {DeliveryState.PENDING, DeliveryState.SKIPPED} == DELIVERY_STARTS


def test_the_way_of_a_case() -> None:
    way = [CaseState.RECEIVING, CaseState.QUEUED, CaseState.PREPARED, CaseState.DETECTED, CaseState.DELIVERING, CaseState.DELIVERED]
    for before, after in pairwise(way):
        check_transition(before, after)
    assert {CaseState.DELIVERED, CaseState.NOT_ANALYSED, CaseState.FAILED, CaseState.SUPERSEDED} == ENDS
    assert {CaseState.NOT_ANALYSED, CaseState.FAILED} == WITHOUT_RESULT
    assert STAGE_OF == {
        CaseState.QUEUED: Stage.PREPARE,
        CaseState.PREPARED: Stage.DETECT,
        CaseState.DETECTED: Stage.RENDER,
        CaseState.DELIVERING: Stage.DELIVER,
    }


def test_what_was_sent_is_never_sent_again() -> None:
    assert {DeliveryState.SENT, DeliveryState.REFUSED, DeliveryState.SKIPPED} == DELIVERY_ENDS
    assert DELIVERY_TRANSITIONS[DeliveryState.SENT] == DELIVERY_TRANSITIONS[DeliveryState.SKIPPED] == frozenset()
