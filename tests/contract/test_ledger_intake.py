"""What the ledger promises of arrivals and their images, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from corewatch.arrival import ArrivalOutcome, Closing
from corewatch.reasons import Reason
from corewatch.states import CaseState, Stage
from ledger.store import Ledger
from tests.support.ledger import ARRIVAL, T0, delivering, files, queued, received


def test_a_series_opens_one_case_from_its_first_instance_on(ledger: Ledger) -> None:
    case_id = received(ledger, count=2)
    assert ledger.intake.ingest(ARRIVAL, files("1.2", range(2, 5))).opened == ()
    [series] = ledger.intake.receiving()
    assert (series.case_id, series.new_instances, len(series.instances)) == (case_id, 5, 5)
    assert series.instances[0].position_lps == (0.0, 0.0, 0.0)
    assert series.last_stored_at == T0 + timedelta(milliseconds=4)
    case = ledger.cases.get(case_id)
    assert case is not None
    assert (case.state, case.created_at) == (CaseState.RECEIVING, T0)


def test_the_same_bytes_again_change_nothing(ledger: Ledger) -> None:
    received(ledger)
    again = ledger.intake.ingest(ARRIVAL, [replace(f, path=f.path + "-again") for f in files("1.2", range(3))])
    assert (again.added, again.identical, again.conflicting, again.opened) == (0, 3, 0, ())


def test_other_bytes_under_a_known_uid_are_kept_aside(ledger: Ledger) -> None:
    received(ledger)
    again = ledger.intake.ingest(ARRIVAL, files("1.2", range(3), content="y"))
    assert (again.added, again.identical, again.conflicting) == (0, 0, 3)
    assert {p for p in ledger.intake.known_paths(ARRIVAL.arrival_id) if "-y" in p} == {
        f.path for f in files("1.2", range(3), content="y")
    }


def test_twice_in_one_batch_counts_once(ledger: Ledger) -> None:
    ledger.intake.register(ARRIVAL)
    [one] = files("1.2", range(1))
    taken = ledger.intake.ingest(ARRIVAL, [one, replace(one, path="other")])
    assert (taken.added, taken.identical) == (1, 1)


def test_a_late_slice_makes_the_next_revision(ledger: Ledger) -> None:
    first = queued(ledger)
    [second] = ledger.intake.ingest(ARRIVAL, files("1.2", range(3, 4))).opened
    [series] = ledger.intake.receiving()
    assert (series.case_id, series.revision, series.new_instances, len(series.instances)) == (second, 2, 1, 4)
    case_one, case_two = ledger.cases.get(first), ledger.cases.get(second)
    assert case_one is not None
    assert case_two is not None
    assert (len(ledger.cases.instance_paths(case_one)), len(ledger.cases.instance_paths(case_two))) == (3, 4)
    assert ledger.cases.supersede_earlier(second) == [first]
    assert ledger.cases.supersede_earlier(second) == []
    case_one = ledger.cases.get(first)
    assert case_one is not None
    assert (case_one.state, case_one.superseded_by) == (CaseState.SUPERSEDED, second)


def test_a_result_takes_the_place_of_earlier_revisions_and_nothing_else_does(ledger: Ledger) -> None:
    first = delivering(ledger, pacs=None)
    [second] = ledger.intake.ingest(ARRIVAL, files("1.2", range(3, 4))).opened

    def states() -> tuple[CaseState, CaseState]:
        one, two = ledger.cases.get(first), ledger.cases.get(second)
        assert one is not None
        assert two is not None
        return one.state, two.state

    ledger.cases.advance(second, CaseState.RECEIVING, CaseState.QUEUED, case_key="key two")
    ledger.cases.advance(second, CaseState.QUEUED, CaseState.PREPARED)
    assert states() == (CaseState.DELIVERING, CaseState.PREPARED)
    ledger.cases.advance(second, CaseState.PREPARED, CaseState.DETECTED)
    assert states() == (CaseState.DELIVERING, CaseState.DETECTED), "its pages may still fail"
    ledger.deliveries.plan(second, CaseState.DETECTED, CaseState.DELIVERING, {"pacs": None})
    assert states() == (CaseState.SUPERSEDED, CaseState.DELIVERING)


def test_an_aligned_head_is_taken_once(ledger: Ledger) -> None:
    ledger.intake.register(ARRIVAL)
    assert ledger.single_file_cases.open_aligned(ARRIVAL, "a/aligned.nii.gz", "abc", T0) is not None
    assert ledger.single_file_cases.open_aligned(ARRIVAL, "b/aligned.nii.gz", "abc", T0) is None


def test_images_whose_files_are_gone_are_received_anew_when_there_is_no_result(ledger: Ledger) -> None:
    first = queued(ledger)
    again = [replace(f, path=f.path + "-again") for f in files("1.2", range(3))]
    taken = ledger.intake.ingest(ARRIVAL, again[:1], on_disk=lambda _: False)
    assert (taken.restored, taken.identical, taken.repeated) == (0, 1, {first}), "it is in work"
    assert ledger.intake.hand_over_key("key of 1.2", "another") == first
    ledger.cases.advance(first, CaseState.QUEUED, CaseState.FAILED, failed_stage=Stage.PREPARE)
    taken = ledger.intake.ingest(ARRIVAL, again[1:], on_disk=lambda _: False)
    assert (taken.restored, taken.identical, len(taken.opened)) == (2, 0, 1)
    assert ledger.intake.hand_over_key("key of 1.2", taken.opened[0]) is None
    assert ledger.intake.hand_over_key("key of 1.2", taken.opened[0]) is None
    assert ledger.cases.advance(taken.opened[0], CaseState.RECEIVING, CaseState.QUEUED, case_key="key of 1.2")
    case = ledger.cases.get(taken.opened[0])
    assert case is not None
    assert sorted(ledger.cases.instance_paths(case)) == sorted(f.path for f in again)


def test_an_arrival_of_other_contents_alone_is_one_case(ledger: Ledger) -> None:
    first = queued(ledger)
    other = replace(ARRIVAL, arrival_id="other")
    ledger.intake.register(other)
    changed = [replace(f, path=f"other/{n}.dcm") for n, f in enumerate(files("1.2", range(3), content="y"))]
    assert ledger.intake.ingest(other, changed).contradicted == {first}
    assert ledger.single_file_cases.open_conflicting(ARRIVAL, [first]) is None, "it brought the first ones"
    told = ledger.single_file_cases.open_conflicting(other, [first])
    assert told is not None
    assert ledger.single_file_cases.open_conflicting(other, [first]) is None
    case = ledger.cases.get(told)
    assert case is not None
    assert (case.reason, case.detail) == (Reason.CONFLICTING_COPY, f"3 images of case {first}.")


def test_arrivals_finish(ledger: Ledger) -> None:
    received(ledger)
    assert ledger.intake.finished_arrivals() == frozenset()
    ledger.intake.finish(ARRIVAL.arrival_id, Closing(T0, ArrivalOutcome.RELEASED, 3))
    assert ledger.intake.finished_arrivals() == {ARRIVAL.arrival_id}


def test_the_recipients_of_every_arrival_of_a_series_are_kept(ledger: Ledger) -> None:
    arrivals = [
        replace(ARRIVAL, arrival_id="a", email=("first@x", "both@x")),
        replace(ARRIVAL, arrival_id="b", email=("both@x", "second@x")),
        replace(ARRIVAL, arrival_id="c"),
    ]
    for number, arrival in enumerate(arrivals):
        ledger.intake.register(arrival)
        ledger.intake.ingest(arrival, files("1.2", range(number, number + 1), arrival=arrival.arrival_id))
    [case] = ledger.cases.find()
    assert case.email == ("first@x", "both@x", "second@x")
    [series] = ledger.intake.receiving()
    assert sorted(series.arrivals) == ["a", "b", "c"]
    assert (case.last_stored_at, len(series.instances)) == (T0 + timedelta(milliseconds=2), 3)


def test_an_older_file_that_comes_later_sets_no_clock_back(ledger: Ledger) -> None:
    ledger.intake.register(ARRIVAL)
    ledger.intake.ingest(ARRIVAL, files("1.2", range(5, 6)))
    ledger.intake.ingest(ARRIVAL, files("1.2", range(1)))
    [case] = ledger.cases.find()
    assert (case.created_at, case.last_stored_at) == (T0 + timedelta(milliseconds=5), T0 + timedelta(milliseconds=5))
