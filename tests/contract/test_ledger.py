"""What the ledger promises, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import itertools
import threading
import traceback
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from sqlalchemy import insert, update
from sqlalchemy.exc import DBAPIError

from corewatch.arrival import Arrival, ArrivalOutcome, ArrivalSource, Closing
from corewatch.errors import ConfigurationError, IllegalTransition
from corewatch.instance import Instance
from corewatch.messages import Work
from corewatch.reasons import Reason
from corewatch.states import CaseState, DeliveryState, Stage
from ledger import tables
from ledger.database import Database
from ledger.intake import IndexedFile
from ledger.store import Ledger
from ledger.tables import schema
from tests.conftest import REQUIRE_SERVERS
from tests.support.postgres import Postgres, find_binaries

T0 = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
_names = itertools.count()


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    binaries = find_binaries()
    if binaries is None:
        message = "PostgreSQL is not installed; see scripts/install-test-tools.sh"
        pytest.fail(message) if REQUIRE_SERVERS else pytest.skip(message)
    server = Postgres(binaries, tmp_path_factory.mktemp("postgres"))
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database(f"ledger{next(_names)}")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(url: str, clock: Clock) -> Iterator[Ledger]:
    ledger = Ledger(url, clock)
    yield ledger
    ledger.close()


ARRIVAL = Arrival("20261121-a", ArrivalSource.C_STORE, T0, "PACS", "10.0.0.5")


def files(series: str, numbers: range, *, arrival: str = ARRIVAL.arrival_id, content: str = "x") -> list[IndexedFile]:
    return [
        IndexedFile(
            path=f"{arrival}/{series}-{k}-{content}.dcm",
            sha256=f"{content}{k}",
            stored_at=T0 + timedelta(milliseconds=k),
            header=Instance(f"{series}.{k}", CTImageStorage, ExplicitVRLittleEndian, series, "9", position_lps=(0.0, 0.0, k * 1.0)),
        )
        for k in numbers
    ]  # fmt: skip


def received(ledger: Ledger, series: str = "1.2", count: int = 3) -> str:
    ledger.intake.register(ARRIVAL)
    [case_id] = ledger.intake.take(ARRIVAL, files(series, range(count))).opened
    return case_id


def queued(ledger: Ledger, series: str = "1.2") -> str:
    case_id = received(ledger, series)
    assert ledger.cases.advance(
        case_id, CaseState.RECEIVING, CaseState.QUEUED, work=[Work(Stage.PREPARE, case_id)], case_key=f"key of {series}"
    )
    return case_id


def delivering(ledger: Ledger, **destinations: str | None) -> str:
    case_id = queued(ledger)
    ledger.cases.advance(case_id, CaseState.QUEUED, CaseState.PREPARED)
    ledger.cases.advance(case_id, CaseState.PREPARED, CaseState.DETECTED, core_ml=12.5, side="left", alert=False)
    assert ledger.deliveries.plan(case_id, CaseState.DETECTED, CaseState.DELIVERING, destinations)
    return case_id


def test_a_series_opens_one_case_from_its_first_instance_on(ledger: Ledger) -> None:
    case_id = received(ledger, count=2)
    assert ledger.intake.take(ARRIVAL, files("1.2", range(2, 5))).opened == ()
    [series] = ledger.intake.receiving()
    assert (series.case_id, series.new_instances, len(series.instances)) == (case_id, 5, 5)
    assert series.instances[0].position_lps == (0.0, 0.0, 0.0)
    assert series.last_stored_at == T0 + timedelta(milliseconds=4)
    case = ledger.cases.get(case_id)
    assert case is not None
    assert (case.state, case.created_at) == (CaseState.RECEIVING, T0)


def test_the_same_bytes_again_change_nothing(ledger: Ledger) -> None:
    received(ledger)
    again = ledger.intake.take(ARRIVAL, [replace(f, path=f.path + "-again") for f in files("1.2", range(3))])
    assert (again.added, again.identical, again.conflicting, again.opened) == (0, 3, 0, ())


def test_other_bytes_under_a_known_uid_are_kept_aside(ledger: Ledger) -> None:
    received(ledger)
    again = ledger.intake.take(ARRIVAL, files("1.2", range(3), content="y"))
    assert (again.added, again.identical, again.conflicting) == (0, 0, 3)
    assert {p for p in ledger.intake.known_paths(ARRIVAL.arrival_id) if "-y" in p} == {
        f.path for f in files("1.2", range(3), content="y")
    }


def test_twice_in_one_batch_counts_once(ledger: Ledger) -> None:
    ledger.intake.register(ARRIVAL)
    [one] = files("1.2", range(1))
    taken = ledger.intake.take(ARRIVAL, [one, replace(one, path="other")])
    assert (taken.added, taken.identical) == (1, 1)


def test_a_late_slice_makes_the_next_revision(ledger: Ledger) -> None:
    first = queued(ledger)
    [second] = ledger.intake.take(ARRIVAL, files("1.2", range(3, 4))).opened
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
    [second] = ledger.intake.take(ARRIVAL, files("1.2", range(3, 4))).opened

    def states() -> tuple[CaseState, CaseState]:
        one, two = ledger.cases.get(first), ledger.cases.get(second)
        assert one is not None
        assert two is not None
        return one.state, two.state

    ledger.cases.advance(second, CaseState.RECEIVING, CaseState.QUEUED, case_key="key two")
    ledger.cases.advance(second, CaseState.QUEUED, CaseState.PREPARED)
    assert states() == (CaseState.DELIVERING, CaseState.PREPARED)
    ledger.cases.advance(second, CaseState.PREPARED, CaseState.DETECTED)
    assert states() == (CaseState.SUPERSEDED, CaseState.DETECTED)


def test_an_aligned_head_is_taken_once(ledger: Ledger) -> None:
    ledger.intake.register(ARRIVAL)
    assert ledger.singles.take_aligned(ARRIVAL, "a/aligned.nii.gz", "abc", T0) is not None
    assert ledger.singles.take_aligned(ARRIVAL, "b/aligned.nii.gz", "abc", T0) is None


def test_images_whose_files_are_gone_are_received_anew_when_there_is_no_result(ledger: Ledger) -> None:
    first = queued(ledger)
    again = [replace(f, path=f.path + "-again") for f in files("1.2", range(3))]
    taken = ledger.intake.take(ARRIVAL, again[:1], on_disk=lambda _: False)
    assert (taken.restored, taken.identical, taken.repeated) == (0, 1, {first}), "it is in work"
    assert ledger.intake.hand_over_key("key of 1.2", "another") == first
    ledger.cases.advance(first, CaseState.QUEUED, CaseState.FAILED, failed_stage=Stage.PREPARE)
    taken = ledger.intake.take(ARRIVAL, again[1:], on_disk=lambda _: False)
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
    assert ledger.intake.take(other, changed).contradicted == {first}
    assert ledger.singles.take_conflicts(ARRIVAL, [first]) is None, "it brought the first ones"
    told = ledger.singles.take_conflicts(other, [first])
    assert told is not None
    assert ledger.singles.take_conflicts(other, [first]) is None
    case = ledger.cases.get(told)
    assert case is not None
    assert (case.reason, case.detail) == (Reason.CONFLICTING_COPY, f"3 images of case {first}.")


def test_arrivals_finish(ledger: Ledger) -> None:
    received(ledger)
    assert ledger.intake.finished_arrivals() == frozenset()
    ledger.intake.finish(ARRIVAL.arrival_id, Closing(T0, ArrivalOutcome.RELEASED, 3))
    assert ledger.intake.finished_arrivals() == {ARRIVAL.arrival_id}


def test_work_is_in_the_outbox_with_the_transition(ledger: Ledger, clock: Clock) -> None:
    case_id = queued(ledger)
    [posted] = ledger.outbox.due(clock.now)
    assert posted.work == Work(Stage.PREPARE, case_id)
    ledger.outbox.mark_published(posted)
    assert ledger.outbox.due(clock.now) == []
    assert ledger.outbox.purge(clock.now + timedelta(days=1)) == 1


def test_an_illegal_transition_raises_and_leaves_no_work(ledger: Ledger, clock: Clock) -> None:
    case_id = received(ledger)
    with pytest.raises(IllegalTransition):
        ledger.cases.advance(case_id, CaseState.RECEIVING, CaseState.DELIVERED, work=[Work(Stage.DETECT, case_id)])
    assert ledger.outbox.due(clock.now) == []


def test_a_transition_from_a_state_that_is_over_does_nothing(ledger: Ledger) -> None:
    case_id = queued(ledger)
    assert ledger.cases.advance(case_id, CaseState.QUEUED, CaseState.PREPARED)
    assert not ledger.cases.advance(case_id, CaseState.QUEUED, CaseState.PREPARED)


def test_one_worker_at_a_time(ledger: Ledger, clock: Clock) -> None:
    case_id = queued(ledger)
    first = ledger.cases.begin(case_id, CaseState.QUEUED, holder="a", lease_s=60)
    assert first is not None
    assert first.attempts == 1
    assert ledger.cases.begin(case_id, CaseState.QUEUED, holder="b", lease_s=60) is None
    clock.forward(61)
    second = ledger.cases.begin(case_id, CaseState.QUEUED, holder="b", lease_s=60)
    assert second is not None
    assert second.attempts == 2
    third = ledger.cases.begin(case_id, CaseState.QUEUED, holder="c", lease_s=60, takeover=True)
    assert third is not None
    assert third.attempts == 3


def test_many_workers_race_for_a_case(url: str, ledger: Ledger) -> None:
    case_id = queued(ledger)
    won: list[str] = []

    def claim(name: str) -> None:
        own = Ledger(url)
        if own.cases.begin(case_id, CaseState.QUEUED, holder=name, lease_s=3600 * 24 * 365 * 10) is not None:
            won.append(name)
        own.close()

    threads = [threading.Thread(target=claim, args=(f"w{k}",)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_work_that_nobody_took_up_is_found(ledger: Ledger, clock: Clock) -> None:
    case_id = queued(ledger)
    assert ledger.cases.overdue(clock.now) == []
    clock.forward(121)
    [case] = ledger.cases.overdue(clock.now)
    assert case.case_id == case_id
    assert ledger.cases.repost(case)
    assert not ledger.cases.repost(case)
    assert [p.work.stage for p in ledger.outbox.due(clock.now)] == [Stage.PREPARE, Stage.PREPARE]
    assert ledger.cases.overdue(clock.now + timedelta(seconds=119)) == []


def test_a_failed_attempt_waits_and_counts(ledger: Ledger, clock: Clock) -> None:
    case_id = queued(ledger)
    [posted] = ledger.outbox.due(clock.now)
    ledger.outbox.mark_published(posted)
    ledger.cases.begin(case_id, CaseState.QUEUED, holder="a", lease_s=60)
    assert ledger.cases.release(case_id, CaseState.QUEUED, holder="a", why="disk", not_before=clock.now + timedelta(seconds=5))
    assert ledger.outbox.due(clock.now) == []
    clock.forward(5)
    assert len(ledger.outbox.due(clock.now)) == 1
    again = ledger.cases.begin(case_id, CaseState.QUEUED, holder="b", lease_s=60)
    assert again is not None
    assert again.attempts == 2


def test_only_the_holder_gives_a_stage_back(ledger: Ledger, clock: Clock) -> None:
    case_id = queued(ledger)
    ledger.cases.begin(case_id, CaseState.QUEUED, holder="a", lease_s=60)
    assert not ledger.cases.release(case_id, CaseState.QUEUED, holder="b", why="mistaken", not_before=clock.now)
    assert [c.holder for c in ledger.cases.held()] == ["a"]


def test_attempts_start_anew_with_each_stage(ledger: Ledger) -> None:
    case_id = queued(ledger)
    ledger.cases.begin(case_id, CaseState.QUEUED, holder="a", lease_s=60)
    ledger.cases.advance(case_id, CaseState.QUEUED, CaseState.PREPARED)
    case = ledger.cases.begin(case_id, CaseState.PREPARED, holder="a", lease_s=60)
    assert case is not None
    assert case.attempts == 1


def test_the_last_delivery_ends_the_case(ledger: Ledger) -> None:
    case_id = delivering(ledger, pacs=None, email=None, other="does not apply")
    for name, last in (("pacs", False), ("email", True)):
        assert ledger.deliveries.begin(case_id, name, lease_s=60) is not None
        assert ledger.deliveries.end(case_id, name, DeliveryState.SENT, detail="ok") is last
    case = ledger.cases.get(case_id)
    assert case is not None
    assert case.state is CaseState.DELIVERED
    assert {d.destination: d.state for d in ledger.deliveries.of(case_id)} == {
        "pacs": DeliveryState.SENT, "email": DeliveryState.SENT, "other": DeliveryState.SKIPPED
    }  # fmt: skip


def test_a_case_without_a_destination_that_applies_ends_at_once(ledger: Ledger) -> None:
    case = ledger.cases.get(delivering(ledger, pacs="no DICOM source"))
    assert case is not None
    assert case.state is CaseState.DELIVERED


def test_a_sent_delivery_is_never_begun_again(ledger: Ledger) -> None:
    case_id = delivering(ledger, pacs=None)
    ledger.deliveries.begin(case_id, "pacs", lease_s=60)
    ledger.deliveries.end(case_id, "pacs", DeliveryState.SENT, detail="ok")
    assert ledger.deliveries.begin(case_id, "pacs", lease_s=60, takeover=True) is None
    assert not ledger.deliveries.end(case_id, "pacs", DeliveryState.SENT, detail="ok")


def test_a_refused_delivery_fails_the_case_and_tells_the_operators_once(ledger: Ledger) -> None:
    case_id = delivering(ledger, pacs=None, folder=None)
    ledger.deliveries.begin(case_id, "folder", lease_s=60)
    ledger.deliveries.end(case_id, "folder", DeliveryState.SENT, detail="ok")
    ledger.deliveries.begin(case_id, "pacs", lease_s=60)
    assert ledger.deliveries.end(case_id, "pacs", DeliveryState.REFUSED, detail="no", notices=("folder", "operators"))
    case = ledger.cases.get(case_id)
    assert case is not None
    assert (case.state, case.failed_stage) == (CaseState.FAILED, Stage.DELIVER)
    states = {d.destination: d.state for d in ledger.deliveries.of(case_id)}
    assert states == {"pacs": DeliveryState.REFUSED, "folder": DeliveryState.SENT, "operators": DeliveryState.PENDING}


def test_a_delivery_that_failed_waits_alone(ledger: Ledger, clock: Clock) -> None:
    case_id = delivering(ledger, pacs=None, email=None)
    for posted in ledger.outbox.due(clock.now):
        ledger.outbox.mark_published(posted)
    ledger.deliveries.begin(case_id, "pacs", lease_s=60)
    later = clock.now + timedelta(seconds=30)
    assert ledger.deliveries.release(case_id, "pacs", why="down", not_before=later, counts=False)
    assert [d.attempts for d in ledger.deliveries.of(case_id) if d.destination == "pacs"] == [0]
    assert ledger.outbox.due(clock.now) == []
    clock.forward(31)
    assert [p.work.destination for p in ledger.outbox.due(clock.now)] == ["pacs"]


def test_two_deliveries_that_end_together_end_the_case_once(url: str, ledger: Ledger) -> None:
    names = [f"d{k}" for k in range(6)]
    case_id = delivering(ledger, **dict.fromkeys(names))
    last: list[str] = []
    for name in names:
        ledger.deliveries.begin(case_id, name, lease_s=60)

    def finish(name: str) -> None:
        own = Ledger(url)
        if own.deliveries.end(case_id, name, DeliveryState.SENT, detail="ok"):
            last.append(name)
        own.close()

    threads = [threading.Thread(target=finish, args=(n,)) for n in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    case = ledger.cases.get(case_id)
    assert case is not None
    assert case.state is CaseState.DELIVERED
    assert len(last) == 1


def test_overdue_deliveries_are_posted_again(ledger: Ledger, clock: Clock) -> None:
    case_id = delivering(ledger, pacs=None)
    clock.forward(200)
    [late] = ledger.deliveries.overdue(clock.now)
    assert (late.case_id, late.destination) == (case_id, "pacs")
    ledger.deliveries.repost(late)
    assert ledger.deliveries.overdue(clock.now) == []
    clock.forward(199)  # the next look comes as late again, so that a weekend without a worker is no flood
    assert ledger.deliveries.overdue(clock.now) == []
    clock.forward(2)
    assert len(ledger.deliveries.overdue(clock.now)) == 1


@pytest.mark.parametrize(
    ("stage", "state"),
    [
        (Stage.PREPARE, CaseState.QUEUED),
        (Stage.DETECT, CaseState.PREPARED),
        (Stage.RENDER, CaseState.DETECTED),
    ],
)
def test_retry_starts_the_failed_stage(ledger: Ledger, stage: Stage, state: CaseState) -> None:
    case_id = queued(ledger)
    steps = [CaseState.QUEUED, CaseState.PREPARED, CaseState.DETECTED]
    for before, after in itertools.pairwise(steps[: steps.index(state) + 1]):
        ledger.cases.advance(case_id, before, after)
    ledger.cases.advance(case_id, state, CaseState.FAILED, failed_stage=stage, detail="broke")
    assert ledger.cases.retry(case_id) is stage
    case = ledger.cases.get(case_id)
    assert case is not None
    assert (case.state, case.failed_stage, case.detail, case.attempts) == (state, None, "", 0)


def test_retry_of_a_delivery_keeps_what_was_sent(ledger: Ledger) -> None:
    case_id = delivering(ledger, pacs=None, email=None)
    ledger.deliveries.begin(case_id, "email", lease_s=60)
    ledger.deliveries.end(case_id, "email", DeliveryState.SENT, detail="ok")
    ledger.deliveries.begin(case_id, "pacs", lease_s=60)
    ledger.deliveries.end(case_id, "pacs", DeliveryState.REFUSED, detail="no")
    assert ledger.cases.retry(case_id) is Stage.RENDER
    assert ledger.deliveries.plan(case_id, CaseState.DETECTED, CaseState.DELIVERING, {"pacs": None, "email": None})
    states = {d.destination: d.state for d in ledger.deliveries.of(case_id)}
    assert states == {"pacs": DeliveryState.PENDING, "email": DeliveryState.SENT}


def test_who_was_told_of_an_end_is_told_of_the_next_one(ledger: Ledger) -> None:
    case_id = queued(ledger)
    notices = dict.fromkeys(["folder", "operators"])

    def end() -> None:
        ledger.deliveries.plan(case_id, CaseState.QUEUED, CaseState.NOT_ANALYSED, notices, reason=Reason.MODEL_MISSING)
        assert {d.state for d in ledger.deliveries.of(case_id)} == {DeliveryState.PENDING}
        for name in notices:
            assert ledger.deliveries.begin(case_id, name, lease_s=60) is not None
            ledger.deliveries.end(case_id, name, DeliveryState.SENT, detail="ok")

    end()
    assert ledger.cases.retry(case_id) is Stage.PREPARE
    end()


def test_retry_has_nothing_to_do_for_a_healthy_case(ledger: Ledger) -> None:
    assert ledger.cases.retry(queued(ledger)) is None
    assert ledger.cases.retry("unknown") is None


def test_the_history_tells_the_case_from_its_first_instance_on(ledger: Ledger, clock: Clock) -> None:
    case_id = queued(ledger)
    clock.forward(3)
    ledger.cases.advance(case_id, CaseState.QUEUED, CaseState.NOT_ANALYSED, reason=Reason.MISSING_SLICES, detail="between 1 and 2")
    history = ledger.cases.history(case_id)
    assert [h.event for h in history] == ["case.receiving", "case.queued", "case.not_analysed"]
    assert history[-1].at == T0 + timedelta(seconds=3)
    assert history[-1].detail["reason"] == "missing_slices"


def test_times_keep_their_zone(ledger: Ledger) -> None:
    case = ledger.cases.get(received(ledger))
    assert case is not None
    assert case.created_at.tzinfo is not None
    assert case.created_at == T0


def test_find(ledger: Ledger) -> None:
    first, second = queued(ledger, "1.2"), received(ledger, "3.4")
    assert {c.case_id for c in ledger.cases.find()} == {first, second}
    assert [c.case_id for c in ledger.cases.find(states=[CaseState.QUEUED])] == [first]
    assert [c.case_id for c in ledger.cases.find(series_uid="3.4")] == [second]
    assert [c.case_id for c in ledger.cases.find(case_key="key of 1.2")] == [first]
    assert len(ledger.cases.find(limit=1)) == 1


def test_it_survives_being_opened_again(url: str, ledger: Ledger) -> None:
    case_id = queued(ledger)
    ledger.close()
    again = Ledger(url)
    case = again.cases.get(case_id)
    again.close()
    assert case is not None
    assert case.state is CaseState.QUEUED


def test_the_text_of_an_error_holds_no_value_of_a_row(ledger: Ledger, url: str, clock: Clock) -> None:
    received(ledger, series="1.2.826.999")
    database = Database(url, clock)
    row = {
        "revision": 1,
        "state": "receiving",
        "email": ["who@hospital.example"],
        "created_at": T0,
        "last_stored_at": T0,
        "updated_at": T0,
    }
    for values in (
        {**row, "case_id": "b" * 12, "series_uid": "1.2.826.999"},  # unique
        {**row, "case_id": "c" * 12, "series_uid": "1.2.826.999", "revision": None},  # not null
    ):
        with pytest.raises(DBAPIError) as caught, database.transaction() as connection:
            connection.execute(insert(tables.cases).values(**values))
        told = "".join(traceback.format_exception(caught.value))
        assert "1.2.826.999" not in told
        assert "who@hospital.example" not in told
        assert "INSERT INTO cases" in told
    database.close()


def test_many_programs_open_a_new_ledger_at_once(url: str) -> None:
    opened: list[Ledger] = []
    threads = [threading.Thread(target=lambda: opened.append(Ledger(url))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 6
    for ledger in opened:
        assert ledger.cases.find() == []
        ledger.close()


def test_a_ledger_of_another_version_is_refused_with_words(url: str, ledger: Ledger) -> None:
    ledger.close()
    database = Database(url)
    with database.transaction() as connection:
        connection.execute(update(schema).values(version=99))
    database.close()
    with pytest.raises(ConfigurationError, match="layout 99"):
        Ledger(url)
