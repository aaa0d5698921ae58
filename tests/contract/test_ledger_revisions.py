"""A later revision takes the place of earlier ones, whichever of them ends first, on both databases."""

from __future__ import annotations

import pytest

from corewatch.messages import Work
from corewatch.reasons import Reason
from corewatch.states import CaseState, Stage
from ledger.store import Ledger
from tests.support.ledger import ARRIVAL, T0, files, queued

S = CaseState


def second(ledger: Ledger, state: CaseState) -> str:
    """The next revision of the series of `queued`, in `state`."""
    [case_id] = ledger.intake.ingest(ARRIVAL, files("1.2", range(10, 12))).opened
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


def test_a_result_supersedes_earlier_revisions_and_no_later_one(ledger: Ledger) -> None:
    first = queued(ledger)
    middle = second(ledger, S.QUEUED)
    [last] = ledger.intake.ingest(ARRIVAL, files("1.2", range(20, 22))).opened
    other = queued(ledger, "3.4")
    for before, after in ((S.QUEUED, S.PREPARED), (S.PREPARED, S.DETECTED)):
        assert ledger.cases.advance(middle, before, after)
    assert ledger.deliveries.plan(middle, S.DETECTED, S.DELIVERING, {"folder": None})
    assert [state_of(ledger, c) for c in (first, middle, last, other)] == [S.SUPERSEDED, S.DELIVERING, S.RECEIVING, S.QUEUED]
    case = ledger.cases.get(first)
    assert case is not None
    assert case.superseded_by == middle
    assert ledger.cases.history(first)[-1].detail == {"by": middle}
    assert len(ledger.cases.instance_paths(case)) == 3, "its own, and not those of later revisions"
    assert ledger.cases.supersede_earlier(last) == [middle]


def test_one_that_ends_without_a_result_gives_way_alone(ledger: Ledger) -> None:
    """Of three, the second ends while the third is in work: the first, which is in work too, goes on."""
    first = queued(ledger)
    middle = second(ledger, S.QUEUED)
    [last] = ledger.intake.ingest(ARRIVAL, files("1.2", range(20, 22))).opened
    assert ledger.cases.advance(last, S.RECEIVING, S.QUEUED, case_key="third")
    assert ledger.cases.advance(middle, S.QUEUED, S.FAILED, failed_stage=Stage.PREPARE)
    assert [state_of(ledger, c) for c in (first, middle, last)] == [S.QUEUED, S.SUPERSEDED, S.QUEUED]
    assert ledger.cases.advance(first, S.QUEUED, S.FAILED, failed_stage=Stage.PREPARE)
    case = ledger.cases.get(first)
    assert case is not None
    assert (case.state, case.superseded_by) == (S.SUPERSEDED, last), "by the newest"


def test_a_single_file_that_fails_gives_way_to_nothing(ledger: Ledger) -> None:
    ledger.intake.register(ARRIVAL)
    case_id = ledger.single_file_cases.open_aligned(ARRIVAL, "a/aligned.nii.gz", "abc", T0)
    other = ledger.single_file_cases.open_aligned(ARRIVAL, "b/aligned.nii.gz", "def", T0)
    assert case_id is not None
    assert other is not None
    assert ledger.cases.advance(case_id, S.RECEIVING, S.FAILED, failed_stage=Stage.PREPARE)
    assert [state_of(ledger, c) for c in (case_id, other)] == [S.FAILED, S.RECEIVING]
