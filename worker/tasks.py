"""The four Celery tasks: each does its stage if it is due and moves the case on; what a stage does is in `stages`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from celery import Celery, Task
from celery.exceptions import Reject

from corewatch.destinations import gets_results
from corewatch.errors import CorewatchError
from corewatch.states import CaseState, DeliveryState, Stage
from jobs.names import task_name
from ledger.cases import Case
from worker.context import WorkerContext
from worker.delivery.destinations import naming_of
from worker.delivery.ending import write_last_result
from worker.delivery.running import run_delivery
from worker.stages.detect import detect
from worker.stages.prepare import AlignedSource, DicomSource, prepare
from worker.stages.render import render
from worker.stages.running import Facts, next_work, run_stage


def register(app: Celery, context: Callable[[], WorkerContext]) -> None:
    """Register the bodies of the tasks with `app`; `context` gives what this process holds."""

    def prepare_case(self: Task, case_id: str) -> None:
        held = context()
        run_stage(held, case_id, CaseState.QUEUED, _prepare, _to(held, CaseState.PREPARED), redelivered=again(self))

    def detect_case(self: Task, case_id: str) -> None:
        held = context()
        if held.keeper is not None and not held.keeper.has_model:  # taken before the queue was closed
            time.sleep(GIVE_BACK_S)
            raise Reject("there is no model", requeue=True)
        run_stage(held, case_id, CaseState.PREPARED, _detect, _to(held, CaseState.DETECTED), redelivered=again(self))
        if held.keeper is not None:
            held.keeper.settle()

    def render_case(self: Task, case_id: str) -> None:
        held = context()
        run_stage(held, case_id, CaseState.DETECTED, _render, _to_delivery(held), redelivered=again(self))

    def deliver_case(self: Task, case_id: str, destination: str) -> None:
        run_delivery(context(), case_id, destination, redelivered=again(self))

    bodies = {Stage.PREPARE: prepare_case, Stage.DETECT: detect_case, Stage.RENDER: render_case, Stage.DELIVER: deliver_case}
    for stage, body in bodies.items():
        app.task(body, name=task_name(stage), bind=True)


GIVE_BACK_S = 1.0
"""A message that comes while there is no model is given back after this wait, so that it does not fly round and round."""


def again(task: Task) -> bool:
    """Whether the broker gives this message out a second time because its first worker is gone."""
    info: dict[str, Any] = task.request.delivery_info or {}
    return bool(info.get("redelivered"))


def _prepare(context: WorkerContext, case: Case) -> Facts:
    received = context.settings.received_dir
    source: DicomSource | AlignedSource
    if case.aligned_path is not None:
        source = AlignedSource(received / case.aligned_path)
    else:
        source = DicomSource(tuple(received / p for p in context.ledger.cases.instance_paths(case)))
    folder = context.folder(case.case_id)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.settings.write_text(context.settings.model_dump_json(indent=1))  # secrets are masked by their type
    prepare(source, folder, minimum_score=context.settings.work.min_alignment_score)
    return {}


def _detect(context: WorkerContext, case: Case) -> Facts:
    detector = context.detectors.get(case.model)
    try:
        found = detect(context.folder(case.case_id), detector, alert_ml=context.settings.model.alert_ml)
    except CorewatchError:
        raise
    except Exception:
        if context.keeper is not None:
            context.keeper.doubt()
        raise
    finding = asdict(found.finding)
    context.ledger.note("case.analysed", case.case_id, **finding["model"], core_ml=finding["core_ml"], alert=finding["alert"])
    return {"core_ml": finding["core_ml"], "side": str(finding["side"]), "alert": finding["alert"]}


def _render(context: WorkerContext, case: Case) -> Facts:
    render(context.reported(case), naming_of(context.settings))
    return {}


def _to(context: WorkerContext, after: CaseState) -> Callable[[Case, Facts], bool]:
    def advance(case: Case, facts: Facts) -> bool:
        return context.ledger.cases.advance(case.case_id, case.state, after, work=next_work(case, after), **facts)

    return advance


def _to_delivery(context: WorkerContext) -> Callable[[Case, Facts], bool]:
    def advance(case: Case, facts: Facts) -> bool:
        reported = context.reported(case)
        planned = {name: d.skip_reason(reported) for name, d in context.destinations.items() if gets_results(name)}
        for refused in context.ledger.deliveries.of(case.case_id):  # an operator has started the case anew
            if refused.state is DeliveryState.REFUSED and refused.destination not in planned:
                gone = context.destinations.get(refused.destination)
                planned[refused.destination] = "no longer in the settings" if gone is None else gone.skip_reason(reported)
        finding = reported.result.finding
        levels = [timedelta(minutes=level.after_min) for level in context.settings.deliver.escalation]
        alert = finding is not None and finding.alert
        moved = context.ledger.deliveries.plan(
            case.case_id, case.state, CaseState.DELIVERING, planned, escalation=levels if alert else None, **facts
        )
        if moved and all(skip is not None for skip in planned.values()):
            write_last_result(context, case.case_id)
        return moved

    return advance
