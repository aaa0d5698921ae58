"""`corewatch cases` on a ledger of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.case_tables import age
from cli.main import corewatch
from corewatch import RESEARCH_LABEL
from corewatch.arrival import Arrival, ArrivalSource
from corewatch.instance import Instance
from corewatch.messages import Work
from corewatch.reasons import Reason
from corewatch.states import CaseState, Stage
from ledger.intake import IndexedFile
from ledger.store import Ledger

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
Run = Callable[..., Result]


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


def new_case(ledger: Ledger, number: int) -> str:
    """A case in `receiving`."""
    arrival = Arrival(f"arrival-{number}", ArrivalSource.C_STORE, NOW)
    ledger.intake.register(arrival)
    header = Instance(f"1.2.{number}.1", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", f"1.2.{number}", "1.2")
    stored_at = NOW - timedelta(minutes=number)
    (case_id,) = ledger.intake.ingest(arrival, [IndexedFile(f"{arrival.arrival_id}/a.dcm", "0" * 64, stored_at, header)]).opened
    return case_id


def moved(ledger: Ledger, case_id: str, *states: CaseState, **facts: Any) -> str:
    """Move a case along the given states; the facts belong to the last."""
    before = CaseState.RECEIVING
    for state in states:
        last = facts if state is states[-1] else {}
        assert ledger.cases.advance(
            case_id, before, state, **({"case_key": f"key-{case_id}"} if state is CaseState.QUEUED else {}), **last
        )
        before = state
    return case_id


def test_list_shows_each_case_once_with_its_reason_and_the_label(run: Run, ledger: Ledger) -> None:
    refused = moved(ledger, new_case(ledger, 1), CaseState.NOT_ANALYSED, reason=Reason.TOO_FEW_SLICES, detail="12 slices.")
    found = moved(
        ledger,
        new_case(ledger, 2),
        CaseState.QUEUED,
        CaseState.PREPARED,
        CaseState.DETECTED,
        core_ml=61.26,
        side="left",
        alert=True,
    )
    output = run("list").output
    lines = {line.split()[0]: line for line in output.splitlines() if line}
    assert "not_analysed" in lines[refused]
    assert "The series has too few slices. 12 slices." in lines[refused]
    assert lines[found].split()[1:] == ["detected", *lines[found].split()[2:4], "left", "61.3", "ALERT"]
    assert RESEARCH_LABEL in output


def test_list_can_be_narrowed_and_limited(run: Run, ledger: Ledger) -> None:
    receiving = [new_case(ledger, n) for n in range(1, 4)]
    failed = moved(ledger, new_case(ledger, 9), CaseState.FAILED)
    listed = json.loads(run("list", "--json", "--state", "failed").output)
    assert [case["case_id"] for case in listed] == [failed]
    listed = json.loads(run("list", "--json", "--state", "receiving", "--limit", "2").output)
    assert [case["case_id"] for case in listed] == receiving[:2]
    assert run("list", "--state", "broken").exit_code == 2


def test_an_empty_list_says_so(run: Run, ledger: Ledger) -> None:
    assert run("list").output == "There are no such cases.\n"
    assert json.loads(run("list", "--json").output) == []


def test_show_tells_deliveries_and_history(run: Run, ledger: Ledger) -> None:
    case_id = moved(ledger, new_case(ledger, 1), CaseState.QUEUED, CaseState.PREPARED, CaseState.DETECTED)
    ledger.deliveries.plan(case_id, CaseState.DETECTED, CaseState.DELIVERING, {"folder": None, "pacs": "no DICOM source"})
    output = run("show", case_id).output
    assert "case.prepared" in output
    assert "no DICOM source" in output
    details = json.loads(run("show", "--json", case_id).output)
    assert {d["destination"]: d["state"] for d in details["deliveries"]} == {"folder": "pending", "pacs": "skipped"}
    assert [line["event"] for line in details["history"]][:2] == ["case.receiving", "case.queued"]
    assert details["notice"] == RESEARCH_LABEL


@pytest.mark.parametrize("command", ["show", "retry", "cancel"])
def test_an_unknown_case_is_a_usage_error_in_one_line(run: Run, ledger: Ledger, command: str) -> None:
    result = run(command, "nosuchcase")
    assert result.exit_code == 2
    assert result.output == "Error: there is no case nosuchcase; `corewatch cases list` shows the cases\n"


def test_without_a_ledger_none_is_made(run: Run, tmp_path: Path) -> None:
    result = run("list")
    assert result.exit_code == 2
    assert "there is no ledger" in result.output
    assert not (tmp_path / "data").exists()


def test_retry_starts_at_the_stage_that_failed_and_posts_its_work(run: Run, ledger: Ledger) -> None:
    case_id = moved(ledger, new_case(ledger, 1), CaseState.QUEUED, CaseState.PREPARED, CaseState.FAILED, failed_stage=Stage.DETECT)
    result = run("retry", case_id)
    assert (result.exit_code, result.output) == (0, f"{case_id}: starts again at detect\n")
    case = ledger.cases.get(case_id)
    assert case is not None
    assert case.state is CaseState.PREPARED
    assert [posted.work for posted in ledger.outbox.due(datetime.now(UTC) + timedelta(days=1))] == [Work(Stage.DETECT, case_id)]
    assert "operator.retried" in [line.event for line in ledger.cases.history(case_id)]


def test_retry_of_a_case_at_work_is_refused(run: Run, ledger: Ledger) -> None:
    case_id = moved(ledger, new_case(ledger, 1), CaseState.QUEUED)
    result = run("retry", case_id)
    assert result.exit_code == 2
    assert f"case {case_id} is queued" in result.output


@pytest.mark.parametrize("states", [(), (CaseState.QUEUED,), (CaseState.QUEUED, CaseState.PREPARED, CaseState.DETECTED)])
def test_cancel_ends_a_case_without_a_result(run: Run, ledger: Ledger, states: tuple[CaseState, ...]) -> None:
    case_id = moved(ledger, new_case(ledger, 1), *states)
    assert json.loads(run("cancel", "--json", case_id).output) == {case_id: "not_analysed"}
    case = ledger.cases.get(case_id)
    assert case is not None
    assert (case.state, case.reason) == (CaseState.NOT_ANALYSED, Reason.CANCELLED)
    assert "operator.cancelled" in [line.event for line in ledger.cases.history(case_id)]


def test_a_case_that_is_being_delivered_or_has_ended_cannot_be_cancelled(run: Run, ledger: Ledger) -> None:
    case_id = moved(ledger, new_case(ledger, 1), CaseState.FAILED)
    result = run("cancel", case_id)
    assert result.exit_code == 2
    assert "can no longer be cancelled" in result.output


def test_one_wrong_id_leaves_the_others_untouched(run: Run, ledger: Ledger) -> None:
    case_id = new_case(ledger, 1)
    assert run("cancel", case_id, "nosuchcase").exit_code == 2
    case = ledger.cases.get(case_id)
    assert case is not None
    assert case.state is CaseState.RECEIVING


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (172800, "2 d")],
)
def test_age_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert age(timedelta(seconds=seconds)) == text
