"""A later revision takes the place of earlier ones, whichever of them ends first, on both databases."""

from __future__ import annotations

import pytest

from corewatch.messages import Work
from corewatch.reasons import Reason
from corewatch.states import CaseState, Stage
from ledger.store import Ledger
from tests.support.ledger import ARRIVAL, files, queued

S = CaseState


def second(ledger: Ledger, state: CaseState) -> str:
    """The next revision of the series of `queued`, in `state`."""
    [case_id] = ledger.intake.take(ARRIVAL, files("1.2", range(10, 12))).opened
    if state is not S.RECEIVING:
        assert ledger.cases.advance(case_id, S.RECEIVING, S.QUEUED, work=[Work(Stage.PREPARE, case_id)], case_key="second")
    if state is S.NOT_ANALYSED:
        assert ledger.cases.advance(case_id, S.QUEUED, S.NOT_ANALYSED, reason=Reason.MISSING_SLICES)
    return case_id


def state_of(ledger: Ledger, case_id: str) -> CaseState:
    case = ledger.cases.get(case_id)
    assert case is not None
    return case.state


@pytest.mark.parametrize("end", [S.NOT_ANALYSED, S.FAILED])
@pytest.mark.parametrize("later", [S.QUEUED, S.NOT_ANALYSED])
def test_a_revision_that_ends_without_a_result_gives_way_to_a_later_one(ledger: Ledger, end: CaseState, later: CaseState) -> None:
    first = queued(ledger)
    newer = second(ledger, later)
    assert state_of(ledger, first) is S.QUEUED, "it is in work"
    assert ledger.deliveries.plan(first, S.QUEUED, end, {"folder": None}, reason=Reason.MISSING_SLICES)
    case = ledger.cases.get(first)
    assert case is not None
    assert (case.state, case.superseded_by) == (S.SUPERSEDED, newer)
    assert state_of(ledger, newer) is later
    assert [line.event for line in ledger.cases.history(first)][-2:] == [f"case.{end}", "case.superseded"]


def test_it_does_not_give_way_to_one_that_is_still_received(ledger: Ledger) -> None:
    first = queued(ledger)
    newer = second(ledger, S.RECEIVING)
    assert ledger.cases.advance(first, S.QUEUED, S.NOT_ANALYSED, reason=Reason.MISSING_SLICES)
    assert [state_of(ledger, c) for c in (first, newer)] == [S.NOT_ANALYSED, S.RECEIVING]


def test_an_earlier_revision_takes_nothing_from_a_later_one(ledger: Ledger) -> None:
    first = queued(ledger)
    newer = second(ledger, S.QUEUED)
    assert ledger.cases.advance(newer, S.QUEUED, S.NOT_ANALYSED, reason=Reason.MISSING_SLICES)
    assert [state_of(ledger, c) for c in (first, newer)] == [S.QUEUED, S.NOT_ANALYSED], "the first may still have a result"
    assert ledger.cases.advance(first, S.QUEUED, S.PREPARED)
    assert state_of(ledger, first) is S.PREPARED
