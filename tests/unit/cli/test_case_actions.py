"""Commands on one case: what each state allows, and that what a refusal recommends works."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.main import corewatch
from corewatch.arrival import Arrival, ArrivalSource
from corewatch.identity import case_key
from corewatch.messages import Work
from corewatch.operator_actions import ACTIONS, Action
from corewatch.reasons import Reason
from corewatch.states import ENDS, CaseState, DeliveryState, Stage
from ledger.intake import IndexedFile
from ledger.operator_actions import OVERRIDE_EVENT
from ledger.store import Ledger
from tests.support.instances import stack

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
Run = Callable[..., Result]
COMMANDS = [Action.RETRY, Action.CANCEL, Action.DELIVER, Action.REANALYSE]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    (tmp_path / "data").mkdir()
    opened = Ledger(f"sqlite:///{tmp_path / 'data' / 'ledger.sqlite'}", lambda: NOW)
    yield opened
    opened.close()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corewatch.yaml").write_text("data_dir: ./data\n")
    return lambda *arguments: CliRunner().invoke(corewatch, ["cases", *arguments])


def receiving(ledger: Ledger, folder: Path, series_uid: str = "1.2.3", slices: int = 50, **header: str) -> str:
    """A case whose images are on the disk."""
    arrival = Arrival(f"arrival-{series_uid}-{slices}", ArrivalSource.C_STORE, NOW)
    ledger.intake.register(arrival)
    files = []
    for one in stack(slices, 2.5, series_uid=series_uid, **header):
        path = folder / "data" / "received" / arrival.arrival_id / f"{one.sop_instance_uid}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        files.append(IndexedFile(f"{arrival.arrival_id}/{path.name}", one.sop_instance_uid, NOW, one))
    (case_id,) = ledger.intake.ingest(arrival, files).opened
    return case_id


def in_state(ledger: Ledger, folder: Path, state: CaseState, series_uid: str = "1.2.3") -> str:
    """A case that came into this state on the way that the pipeline takes."""
    case_id = receiving(ledger, folder, series_uid)
    if state is CaseState.RECEIVING:
        return case_id
    if state is CaseState.NOT_ANALYSED:
        assert ledger.cases.advance(case_id, CaseState.RECEIVING, state, reason=Reason.CANCELLED)
        return case_id
    key = case_key(series_uid, [case_id])
    ledger.cases.advance(case_id, CaseState.RECEIVING, CaseState.QUEUED, case_key=key)
    before = CaseState.QUEUED
    for after in (CaseState.PREPARED, CaseState.DETECTED):
        if state is before:
            return case_id
        ledger.cases.advance(case_id, before, after)
        before = after
    if state is CaseState.DETECTED:
        return case_id
    ledger.deliveries.plan(case_id, before, CaseState.DELIVERING, {"folder": None, "pacs-a": None, "pacs-b": "not for it"})
    if state is CaseState.DELIVERING:
        return case_id
    for name, end in (
        ("folder", DeliveryState.SENT),
        ("pacs-a", DeliveryState.REFUSED if state is CaseState.FAILED else DeliveryState.SENT),
    ):
        assert ledger.deliveries.begin(case_id, name, lease_s=60)
        ledger.deliveries.end(case_id, name, end, detail="")
    if state is CaseState.SUPERSEDED:
        newer = ledger.operator_actions.reanalyse(case_id, by="test")
        for after in (CaseState.PREPARED, CaseState.DETECTED, CaseState.DELIVERING):
            ledger.cases.advance(newer, state_of(ledger, newer), after)
    return case_id


def state_of(ledger: Ledger, case_id: str) -> CaseState:
    case = ledger.cases.get(case_id)
    assert case is not None
    return case.state


def due(ledger: Ledger) -> list[Work]:
    return [posted.work for posted in ledger.outbox.due(datetime.now(UTC) + timedelta(days=1))]


def every_case(ledger: Ledger, folder: Path) -> Iterator[tuple[CaseState, Action, str]]:
    """A case of its own for each state and command."""
    for number, (state, command) in enumerate((state, command) for state in CaseState for command in COMMANDS):
        case_id = in_state(ledger, folder, state, f"1.2.{number}")
        assert state_of(ledger, case_id) is state
        yield state, command, case_id


def test_each_command_in_each_state_does_as_the_table_says_and_what_a_refusal_recommends_works(
    run: Run, ledger: Ledger, tmp_path: Path
) -> None:
    nothing_to_deliver = {CaseState.DELIVERED, CaseState.NOT_ANALYSED}  # all is sent; there are no notices here
    for state, command, case_id in every_case(ledger, tmp_path):
        result = run(command, case_id)
        possible = command in ACTIONS[state] and not (command is Action.DELIVER and state in nothing_to_deliver)
        assert result.exit_code == (0 if possible else 2), (state, command, result.output)
        if possible:
            continue
        assert f"case {case_id} " in result.output
        recommended = re.findall(r"`corewatch cases ([^`]+)`", result.output)
        assert recommended, (state, command, result.output)
        answers = [run(*shlex.split(one)) for one in recommended]
        assert any(answer.exit_code == 0 for answer in answers), (state, command, [answer.output for answer in answers])


def test_every_end_has_a_way_out(run: Run, ledger: Ledger, tmp_path: Path) -> None:
    for number, state in enumerate(sorted(ENDS)):
        case_id = in_state(ledger, tmp_path, state, f"1.2.{number}")
        before = len(due(ledger))
        if state is CaseState.SUPERSEDED:
            newer = json.loads(run("show", "--json", case_id).output)["superseded_by"]
            assert run("reanalyse", newer).exit_code == 0
        else:
            assert any(run(action, case_id).exit_code == 0 for action in sorted(ACTIONS[state])), state
        assert len(due(ledger)) > before, state


def test_a_series_that_was_cancelled_while_it_arrived_is_selected_and_queued(run: Run, ledger: Ledger, tmp_path: Path) -> None:
    case_id = receiving(ledger, tmp_path)
    assert run("cancel", case_id).exit_code == 0
    assert run("retry", case_id).output == f"{case_id}: starts again at prepare\n"
    case = ledger.cases.get(case_id)
    assert case is not None
    assert (case.state, case.reason, case.detail) == (CaseState.QUEUED, None, "")
    assert case.case_key == case_key("1.2.3", [one.sop_instance_uid for one in stack(50)])
    assert due(ledger) == [Work(Stage.PREPARE, case_id)]


def test_a_series_that_a_rule_turned_away_needs_a_word_of_its_own(run: Run, ledger: Ledger, tmp_path: Path) -> None:
    case_id = receiving(ledger, tmp_path, body_part="CHEST", study_description="CT CHEST", series_description="CTA CHEST 1.0")
    ledger.cases.advance(case_id, CaseState.RECEIVING, CaseState.NOT_ANALYSED, reason=Reason.NOT_A_HEAD, case_key="k")
    refused = run("retry", case_id)
    assert refused.exit_code == 2
    assert "--although-excluded" in refused.output
    assert state_of(ledger, case_id) is CaseState.NOT_ANALYSED
    assert ledger.operator_actions.override_of(case_id) is None
    assert run("retry", "--although-excluded", case_id).exit_code == 0
    assert state_of(ledger, case_id) is CaseState.QUEUED
    assert ledger.operator_actions.override_of(case_id) is Reason.NOT_A_HEAD
    [line] = [line for line in ledger.cases.history(case_id) if line.event == OVERRIDE_EVENT]
    assert line.detail["by"]


def test_a_series_whose_images_are_gone_is_not_queued(run: Run, ledger: Ledger, tmp_path: Path) -> None:
    case_id = receiving(ledger, tmp_path)
    run("cancel", case_id)
    next((tmp_path / "data" / "received").glob("*/*.dcm")).unlink()
    result = run("retry", case_id)
    assert result.exit_code == 2
    assert "1 images" in result.output
    assert "send the whole series again" in result.output
    assert state_of(ledger, case_id) is CaseState.NOT_ANALYSED


def test_the_same_images_are_not_analysed_twice(run: Run, ledger: Ledger, tmp_path: Path) -> None:
    """A revision that holds the same images is in work: a retry of the earlier one names it."""
    first = receiving(ledger, tmp_path)
    run("cancel", first)
    other = receiving(ledger, tmp_path, slices=51)
    uids = [one.sop_instance_uid for one in stack(50)]
    ledger.cases.advance(other, CaseState.RECEIVING, CaseState.QUEUED, case_key=case_key("1.2.3", uids))
    result = run("retry", first)
    assert result.exit_code == 2
    assert f"the same images are case {other}" in result.output


def test_deliver_posts_what_waits_and_what_was_refused(run: Run, ledger: Ledger, tmp_path: Path) -> None:
    case_id = receiving(ledger, tmp_path)
    ledger.cases.advance(case_id, CaseState.RECEIVING, CaseState.QUEUED, case_key="k")
    ledger.cases.advance(case_id, CaseState.QUEUED, CaseState.PREPARED)
    ledger.cases.advance(case_id, CaseState.PREPARED, CaseState.DETECTED)
    ledger.deliveries.plan(case_id, CaseState.DETECTED, CaseState.DELIVERING, {"away": None, "refused": None, "sent": None})
    later = NOW + timedelta(hours=1)
    for name in ("away", "refused", "sent"):
        assert ledger.deliveries.begin(case_id, name, lease_s=60)
    ledger.deliveries.release(case_id, "away", why="no answer", not_before=later, counts=False)
    ledger.deliveries.end(case_id, "refused", DeliveryState.REFUSED, detail="no")
    ledger.deliveries.end(case_id, "sent", DeliveryState.SENT, detail="")

    assert json.loads(run("deliver", "--json", case_id, "away").output) == {case_id: ["away"]}
    states = {one.destination: (one.state, one.next_attempt_at) for one in ledger.deliveries.of(case_id)}
    assert states["away"] == (DeliveryState.PENDING, None)
    assert states["refused"][0] is DeliveryState.REFUSED
    assert json.loads(run("deliver", "--json", case_id).output) == {case_id: ["away", "refused"]}
    wrong = run("deliver", case_id, "nowhere")
    assert wrong.exit_code == 2
    assert "its destinations: away, refused, sent" in wrong.output
    sent = run("deliver", case_id, "sent")
    assert sent.exit_code == 2
    assert "sent sent" in sent.output


def test_deliver_closes_the_circuits_of_servers(run: Run, ledger: Ledger, tmp_path: Path) -> None:
    case_id = in_state(ledger, tmp_path, CaseState.FAILED)
    file = tmp_path / "data" / "servers-away.json"
    file.write_text('{"PACS": {"since": 1.0, "until": 9e12, "trying": false}}')
    assert run("deliver", case_id).output == f"{case_id}: is sent now to pacs-a\n"
    assert json.loads(file.read_text()) == {}
    assert state_of(ledger, case_id) is CaseState.DELIVERING


def test_a_case_that_failed_before_its_result_is_not_delivered(run: Run, ledger: Ledger, tmp_path: Path) -> None:
    case_id = in_state(ledger, tmp_path, CaseState.PREPARED)
    ledger.deliveries.plan(case_id, CaseState.PREPARED, CaseState.FAILED, {"operators": None}, failed_stage=Stage.DETECT)
    assert ledger.deliveries.begin(case_id, "operators", lease_s=60)
    ledger.deliveries.end(case_id, "operators", DeliveryState.REFUSED, detail="no")
    assert json.loads(run("deliver", "--json", case_id).output) == {case_id: ["operators"]}
    assert state_of(ledger, case_id) is CaseState.FAILED, "only its notice is sent"


def test_reanalyse_makes_the_next_revision_with_its_own_objects(run: Run, ledger: Ledger, tmp_path: Path) -> None:
    case_id = in_state(ledger, tmp_path, CaseState.DELIVERED)
    [new_id] = json.loads(run("reanalyse", "--json", "--model", "phantom-demo", case_id).output).values()
    old, new = ledger.cases.get(case_id), ledger.cases.get(new_id)
    assert old is not None
    assert new is not None
    assert (new.state, new.revision, new.model, new.series_uid) == (CaseState.QUEUED, 2, "phantom-demo", old.series_uid)
    assert new.case_key != old.case_key
    assert len(ledger.cases.instance_paths(new)) == 50
    assert old.state is CaseState.DELIVERED, "until the new one has its result"
    assert due(ledger)[-1] == Work(Stage.PREPARE, new_id)
    again = run("reanalyse", case_id)
    assert again.exit_code == 2
    assert f"act on case {new_id} instead" in again.output
    for before, after in (
        (CaseState.QUEUED, CaseState.PREPARED),
        (CaseState.PREPARED, CaseState.DETECTED),
        (CaseState.DETECTED, CaseState.DELIVERING),
    ):
        ledger.cases.advance(new_id, before, after)
    assert state_of(ledger, case_id) is CaseState.SUPERSEDED


def test_reanalyse_with_a_model_that_is_not_installed_is_refused(run: Run, ledger: Ledger, tmp_path: Path) -> None:
    case_id = in_state(ledger, tmp_path, CaseState.DELIVERED)
    result = run("reanalyse", "--model", "no-such", case_id)
    assert result.exit_code == 2
    assert "no-such" in result.output
    assert len(ledger.cases.find()) == 1
