"""Files of a case that are damaged or removed are made again; that is never said of the images, and nothing is sent twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversion.nifti import read_aligned, read_core_map, write_aligned, write_core_map
from corewatch.arrival import Arrival, ArrivalSource
from corewatch.casefolder import CaseFolder
from corewatch.errors import NotAnalysed
from corewatch.findings import Finding, ModelIdentity, Side
from corewatch.geometry import NETWORK_SHAPE
from corewatch.reasons import Reason
from corewatch.states import ENDS, PIPELINE, CaseState, Stage
from corewatch.volumes import AlignedHead
from ledger.audit_trail import AuditLine
from ledger.cases import STEPPED_BACK, Case
from ledger.intake import IndexedFile
from tests.support.attempts import ScriptedDestination, get, publish, queued, worker_context
from tests.support.ledger import T0, Clock
from worker.context import WorkerContext
from worker.delivery.sending import run_delivery
from worker.stages.attempts import run_stage
from worker.stages.case_files import FindingRecord, PreparedRecord
from worker.stages.recovery import DAMAGED_SUFFIX, MOST_STEPS_BACK, earliest_whole_state, steps_back
from worker.tasks import advance

STEPS = {step.stage: step for step in PIPELINE}
FINDING = Finding(33.0, None, Side.LEFT, 0.9, False, 50.0, False, ModelIdentity("m", "1", "0" * 64))


@pytest.fixture
def context(tmp_path: Path) -> Iterator[WorkerContext]:
    with worker_context(tmp_path, Clock()) as made:
        yield made


def prepare(folder: CaseFolder) -> None:
    folder.path.mkdir(parents=True, exist_ok=True)
    write_aligned(folder.aligned, AlignedHead(np.zeros(NETWORK_SHAPE, np.uint8), None, None))
    PreparedRecord(None, (), None, None, None, 0.5, 1.5).write(folder)


def detect(folder: CaseFolder) -> None:
    read_aligned(folder.aligned)
    PreparedRecord.read(folder)
    write_core_map(folder.core_map, np.zeros(NETWORK_SHAPE, np.uint8))
    FindingRecord(FINDING, T0, 1.0).write(folder)


def render(folder: CaseFolder) -> None:
    read_aligned(folder.aligned)
    read_core_map(folder.core_map)
    folder.summary.write_bytes(b"page")
    folder.result.write_text("{}")


BODIES: dict[Stage, Callable[[CaseFolder], None]] = {Stage.PREPARE: prepare, Stage.DETECT: detect, Stage.RENDER: render}


def work(context: WorkerContext, until: CaseState, most: int = 12) -> CaseState:
    """Run the stages that are due, as the workers do."""
    for _ in range(most):
        [case] = context.ledger.cases.find()
        if case.state is until or case.state in ENDS:
            break
        for one in publish(context):
            if one.stage is Stage.DELIVER:
                assert one.destination is not None
                run_delivery(context, one.case_id, one.destination, redelivered=False)
            else:
                attempt(context, one.case_id, one.stage)
        context.ledger.clock.forward(61)  # type: ignore[attr-defined]
    return context.ledger.cases.find()[0].state


def attempt(context: WorkerContext, case_id: str, stage: Stage) -> None:
    def body(_context: WorkerContext, case: Case) -> dict[str, Any]:
        BODIES[stage](context.folder(case.case_id))
        return {}

    run_stage(context, case_id, STEPS[stage], body, advance, redelivered=False)


def begin(context: WorkerContext, until: CaseState) -> str:
    """A case in this state."""
    case_id = queued(context)
    attempt(context, case_id, Stage.PREPARE)
    assert work(context, until) is until
    return case_id


def remove(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def scribble(path: Path) -> None:
    path.write_bytes(b"\x00" * 100)


@pytest.mark.parametrize("spoil", [remove, truncate, scribble])
@pytest.mark.parametrize(
    ("state", "name", "back"),
    [
        (CaseState.PREPARED, "aligned.nii.gz", CaseState.QUEUED),
        (CaseState.PREPARED, "prepared.json", CaseState.QUEUED),
        (CaseState.DETECTED, "aligned.nii.gz", CaseState.QUEUED),
        (CaseState.DETECTED, "core_map.nii.gz", CaseState.PREPARED),
        (CaseState.DETECTED, "finding.json", CaseState.PREPARED),
    ],
)
def test_a_damaged_file_of_a_stage_is_made_again(
    state: CaseState, name: str, back: CaseState, spoil: Callable[[Path], None], context: WorkerContext
) -> None:
    context.destinations["pacs"] = ScriptedDestination("pacs", ["stored"])
    case_id = begin(context, state)
    spoil(context.folder(case_id).path / name)
    for one in publish(context):
        attempt(context, one.case_id, one.stage)
    assert get(context, case_id).state is back
    assert work(context, CaseState.DELIVERED) is CaseState.DELIVERED
    [stepped] = [line for line in context.ledger.cases.history(case_id) if line.event == STEPPED_BACK]
    assert stepped.detail["after"] == back
    assert len(context.destinations["pacs"].taken) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["finding.json", "core_map.nii.gz"])
def test_a_delivery_that_finds_damaged_files_waits_until_they_are_made_again(name: str, context: WorkerContext) -> None:
    pacs, mail = ScriptedDestination("pacs", ["stored"]), ScriptedDestination("email", ["sent"])
    context.destinations |= {"email": mail, "pacs": pacs}
    case_id = begin(context, CaseState.DELIVERING)
    run_delivery(context, case_id, "email", redelivered=False)
    scribble(context.folder(case_id).finding)
    scribble(context.folder(case_id).path / name)
    run_delivery(context, case_id, "pacs", redelivered=False)
    assert get(context, case_id).state is CaseState.PREPARED
    assert work(context, CaseState.DELIVERED) is CaseState.DELIVERED
    assert (len(mail.taken), len(pacs.taken)) == (1, 1)


def test_a_disk_that_damages_again_and_again_is_told_to_an_operator_and_retry_helps(context: WorkerContext) -> None:
    case_id = begin(context, CaseState.PREPARED)
    for _ in range(MOST_STEPS_BACK + 1):
        remove(context.folder(case_id).aligned)
        attempt(context, case_id, Stage.DETECT)
        attempt(context, case_id, Stage.PREPARE)
    case = get(context, case_id)
    assert (case.state, case.failed_stage) == (CaseState.FAILED, Stage.DETECT)
    assert "again and again" in case.detail
    assert "disk" in case.detail
    context.destinations["pacs"] = ScriptedDestination("pacs", ["stored"])
    assert context.ledger.cases.retry(case_id) is Stage.DETECT
    assert work(context, CaseState.DELIVERED) is CaseState.DELIVERED


@pytest.mark.parametrize("spoil", [remove, truncate, scribble])
def test_a_damaged_received_file_is_said_of_our_disk_and_not_of_the_images(
    spoil: Callable[[Path], None], context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(_folder: CaseFolder) -> None:
        raise NotAnalysed(Reason.UNREADABLE, "1 of 1 files")

    case_id = queued(context)
    file = context.settings.received_dir / "a" / "1.dcm"
    spoil(file)
    monkeypatch.setitem(BODIES, Stage.PREPARE, unreadable)
    attempt(context, case_id, Stage.PREPARE)
    case = get(context, case_id)
    assert (case.state, case.reason) == (CaseState.FAILED, None)
    assert "1 of 1 received files" in case.detail
    assert "send the series again" in case.detail
    assert not file.exists(), "so that the same image replaces it when it is sent again"
    assert file.with_name(file.name + DAMAGED_SUFFIX).exists() is (spoil is not remove)


def test_whole_received_files_leave_the_reason_as_it_is(context: WorkerContext, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(_folder: CaseFolder) -> None:
        raise NotAnalysed(Reason.UNREADABLE, "no pixel data")

    case_id = queued(context)
    monkeypatch.setitem(BODIES, Stage.PREPARE, unreadable)
    attempt(context, case_id, Stage.PREPARE)
    assert (get(context, case_id).state, get(context, case_id).reason) == (CaseState.NOT_ANALYSED, Reason.UNREADABLE)


def test_the_same_image_sent_again_replaces_a_damaged_one(context: WorkerContext, monkeypatch: pytest.MonkeyPatch) -> None:
    case_id = queued(context)
    scribble(context.settings.received_dir / "a" / "1.dcm")
    monkeypatch.setitem(BODIES, Stage.PREPARE, lambda _folder: 1 / 0)
    attempt(context, case_id, Stage.PREPARE)
    assert get(context, case_id).state is CaseState.FAILED
    again = context.settings.received_dir / "b" / "1.dcm"
    again.parent.mkdir()
    again.write_bytes(b"image")
    [row] = context.ledger.cases.received_files(get(context, case_id))
    arrival = Arrival("b", ArrivalSource.C_STORE, T0)
    context.ledger.intake.register(arrival)
    header = next(header for header, _ in context.ledger.cases.instance_files(get(context, case_id)))

    def on_disk(name: str) -> bool:
        return (context.settings.received_dir / name).exists()

    context.ledger.intake.ingest(arrival, [IndexedFile("b/1.dcm", row[1], T0, header)], on_disk=on_disk)
    newest = context.ledger.cases.find()[0]
    assert [name for name, _ in context.ledger.cases.received_files(newest)] == ["b/1.dcm"]


@given(events=st.lists(st.sampled_from([STEPPED_BACK, "case.failed", "case.queued", "case.delivered", "stage.detect.begun"])))
def test_steps_back_are_counted_since_the_last_end(events: list[str]) -> None:
    history = [AuditLine(number, T0, "c", event, {}) for number, event in enumerate(events)]
    expected = 0
    for event in events:
        expected = 0 if event in {"case.failed", "case.delivered"} else expected + (event == STEPPED_BACK)
    assert steps_back(history) == expected


def test_the_earliest_whole_state(tmp_path: Path) -> None:
    folder = CaseFolder(tmp_path)
    assert earliest_whole_state(folder) is CaseState.QUEUED
    prepare(folder)
    assert earliest_whole_state(folder) is CaseState.PREPARED
    detect(folder)
    assert earliest_whole_state(folder) is CaseState.DETECTED
    render(folder)
    assert earliest_whole_state(folder) is CaseState.DELIVERING
    folder.summary.write_bytes(b"")
    assert earliest_whole_state(folder) is CaseState.DETECTED
    folder.result.write_text("{")
    assert earliest_whole_state(folder) is CaseState.DETECTED
    folder.prepared.write_text(json.dumps({}))
    assert earliest_whole_state(folder) is CaseState.QUEUED
