"""What the ledger promises of cases and their work, and of its database, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import itertools
import threading
import traceback
from datetime import timedelta

import pytest
from sqlalchemy import insert, update
from sqlalchemy.exc import DBAPIError

from corewatch.errors import ConfigurationError, IllegalTransition
from corewatch.messages import Work
from corewatch.reasons import Reason
from corewatch.states import CaseState, Stage
from ledger import tables
from ledger.database import Database
from ledger.store import Ledger
from ledger.tables import schema
from tests.support.ledger import T0, Clock, queued, received


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


def test_a_purge_of_the_outbox_goes_by_publication_and_keeps_what_waits(ledger: Ledger, clock: Clock) -> None:
    first, second = queued(ledger, "1.2"), queued(ledger, "3.4")
    waiting = queued(ledger, "5.6")
    [one, two, _] = ledger.outbox.due(clock.now)
    ledger.outbox.mark_published(one)
    clock.forward(100)
    border = clock.now
    ledger.outbox.mark_published(two)
    clock.forward(86400)
    assert ledger.outbox.purge(border) == 1, "the second was posted as early, and published at the border"
    assert [p.work.case_id for p in ledger.outbox.due(clock.now)] == [waiting]
    assert ledger.outbox.purge(clock.now + timedelta(days=1)) == 1
    assert [p.work.case_id for p in ledger.outbox.due(clock.now)] == [waiting], "however old it is"
    assert {first, second, waiting} == {case.case_id for case in ledger.cases.find()}


def test_the_outbox_gives_its_work_in_order_and_a_batch_at_a_time(ledger: Ledger, clock: Clock) -> None:
    ids = [queued(ledger, f"{n}.2") for n in range(3, 8)]
    assert [p.work.case_id for p in ledger.outbox.due(clock.now)] == ids
    assert [p.work.case_id for p in ledger.outbox.due(clock.now, limit=2)] == ids[:2]
    assert ledger.outbox.due(clock.now - timedelta(seconds=1)) == []


def test_the_history_names_the_reason_of_each_step(ledger: Ledger, clock: Clock) -> None:
    case_id = queued(ledger)
    assert ledger.cases.begin(case_id, CaseState.QUEUED, holder="host/1/1", lease_s=60)
    assert ledger.cases.release(case_id, CaseState.QUEUED, holder="host/1/1", why="disk", not_before=clock.now)
    ledger.cases.advance(case_id, CaseState.QUEUED, CaseState.NOT_ANALYSED, reason=Reason.MODEL_MISSING, failed_stage=Stage.DETECT)
    history = {line.event: line.detail for line in ledger.cases.history(case_id)}
    assert history["stage.prepare.begun"] == {"attempt": 1, "holder": "host/1/1"}
    assert history["stage.prepare.failed"] == {"why": "disk"}
    assert history["case.not_analysed"] == {"reason": "model_missing", "failed_stage": "detect"}
    assert ledger.cases.retry(case_id) is Stage.DETECT
    case = ledger.cases.get(case_id)
    assert case is not None
    assert (case.state, case.reason, case.detail, case.failed_stage) == (CaseState.PREPARED, None, "", None)


def test_a_lease_holds_to_its_very_end(ledger: Ledger, clock: Clock) -> None:
    case_id = queued(ledger)
    assert ledger.cases.begin(case_id, CaseState.QUEUED, holder="a", lease_s=60)
    clock.forward(60)
    assert ledger.cases.overdue(clock.now) == []
    assert ledger.cases.begin(case_id, CaseState.QUEUED, holder="b", lease_s=60) is None
    clock.forward(0.001)
    assert [case.case_id for case in ledger.cases.overdue(clock.now)] == [case_id]
    assert ledger.cases.begin(case_id, CaseState.QUEUED, holder="b", lease_s=60) is not None
