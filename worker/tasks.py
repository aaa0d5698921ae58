"""Celery tasks: one per stage of `corewatch.states.PIPELINE`; each runs its stage where it is due and moves the case on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Final

from celery import Celery, Task
from celery.exceptions import Reject

from config.settings import Settings
from corewatch.casefolder import CaseFolder
from corewatch.cautions import Caution, CautionCode, codes_of
from corewatch.clock import Clock, utc_now
from corewatch.destinations import gets_results, reports_alerts
from corewatch.messages import Work
from corewatch.states import PIPELINE, STAGE_OF, CaseState, DeliveryState, PipelineStep, Stage
from jobs.names import task_name
from ledger.cases import Case
from outputs.case import ReportedCase
from worker.context import WorkerContext
from worker.delivery import report_case, run_delivery, write_last_result
from worker.models.detector import Detector
from worker.stages.attempts import Facts, run_stage
from worker.stages.bodies import STAGE_BODIES
from worker.stages.case_files import FindingRecord, PreparedRecord, cautions_of
from worker.stages.prepare import AlignedSource, DicomSource, HeadObserver, Progress, Source, no_observer, no_progress

REQUEUE_DELAY_S: Final = 1.0
"""Wait before a message is given back to the queue while there is no model, in seconds; without it the message would circle."""


ALERT_GRACE: Final = timedelta(seconds=30)
"""Time that an alert waits for its summary page."""


def register(app: Celery, context: Callable[[], WorkerContext]) -> None:
    """Register the task of each stage with `app`; `context` returns what this process holds."""
    for step in PIPELINE:
        task = _delivery_task(context) if step.stage is Stage.DELIVER else _stage_task(step, context)
        app.task(task, name=task_name(step.stage), bind=True, shared=False)


def _stage_task(step: PipelineStep, context: Callable[[], WorkerContext]) -> Callable[[Task, str], None]:
    def run(self: Task, case_id: str) -> None:
        held = context()
        keeper = held.keeper if step.stage is Stage.DETECT else None
        if keeper is not None and not keeper.has_model:  # received before the queue was closed
            time.sleep(REQUEUE_DELAY_S)
            raise Reject("there is no model", requeue=True)
        unknown_error = run_stage(held, case_id, step, _body_of(step), advance, redelivered=is_redelivered(self))
        if keeper is not None and unknown_error:
            keeper.revalidate()

    return run


def _delivery_task(context: Callable[[], WorkerContext]) -> Callable[[Task, str, str], None]:
    def run(self: Task, case_id: str, destination: str) -> None:
        run_delivery(context(), case_id, destination, redelivered=is_redelivered(self))

    return run


def is_redelivered(task: Task) -> bool:
    """Whether the broker delivers this message again because its first worker is gone."""
    info: dict[str, Any] = task.request.delivery_info or {}
    return bool(info.get("redelivered"))


@dataclass(frozen=True, slots=True)
class LedgerCase:
    """A case of the ledger as the input of a stage (`worker.stages.bodies.StageInput`)."""

    context: WorkerContext
    case: Case
    clock: Clock = utc_now
    progress: Progress = no_progress
    on_aligned: HeadObserver = no_observer

    @property
    def folder(self) -> CaseFolder:
        """Folder of the case."""
        return self.context.folder(self.case.case_id)

    @property
    def settings(self) -> Settings:
        """Settings of this worker."""
        return self.context.settings

    @property
    def source(self) -> Source:
        """The received files of the case."""
        received = self.settings.received_dir
        if self.case.aligned_path is not None:
            return AlignedSource(received / self.case.aligned_path)
        return DicomSource(tuple(received / path for path in self.context.ledger.cases.instance_paths(self.case)))

    @property
    def detector(self) -> Detector:
        """The model that the rule of the series names, or the settings."""
        return self.context.detectors.get(self.case.model)

    @property
    def known_cautions(self) -> tuple[Caution, ...]:
        """That an operator overrode a rule."""
        although = self.context.ledger.operator_actions.override_of(self.case.case_id)
        return () if although is None else (Caution(CautionCode.RULE_OVERRIDDEN, although.sentence.rstrip(".")),)

    def reported(self) -> ReportedCase:
        """The case as the ledger and its folder have it."""
        return report_case(self.context, self.case)


def _body_of(step: PipelineStep) -> Callable[[WorkerContext, Case], Facts]:
    def body(context: WorkerContext, case: Case) -> Facts:
        if step.stage is Stage.PREPARE:
            _keep_settings(context.settings, context.folder(case.case_id))
        output = STAGE_BODIES[step.stage](LedgerCase(context, case))
        if not isinstance(output, FindingRecord):
            return {}
        finding = asdict(output.finding)
        context.ledger.note("case.analysed", case.case_id, **finding["model"], core_ml=finding["core_ml"], alert=finding["alert"])
        prepared = PreparedRecord.read(context.folder(case.case_id))
        cautions = codes_of(cautions_of(prepared, output))
        low, high = finding["core_ml_interval"] or (None, None)
        return {
            "core_ml": finding["core_ml"],
            "core_ml_low": low,
            "core_ml_high": high,
            "side": str(finding["side"]),
            "alert": finding["alert"],
            "unstable": finding["unstable"],
            "cautions": cautions,
        }

    return body


def _keep_settings(settings: Settings, folder: CaseFolder) -> None:
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.settings.write_text(settings.model_dump_json(indent=1))  # pydantic masks secrets


def advance(context: WorkerContext, step: PipelineStep, case: Case, facts: Facts) -> bool:
    """Move a case to the state after the stage, with the message for the next one; whether it was still before that stage."""
    if step.after is CaseState.DELIVERING:
        return plan_deliveries(context, case, facts)
    if step.after is CaseState.DETECTED and facts.get("alert"):
        return raise_alert(context, case, facts)
    work = [Work(STAGE_OF[step.after], case.case_id)]
    return context.ledger.cases.advance(case.case_id, step.before, step.after, work=work, **facts)


def raise_alert(context: WorkerContext, case: Case, facts: Facts) -> bool:
    """Move a case with an alert to `detected`: its escalation starts, and what alerts people is sent even if the pages fail.

    Rendering plans the same deliveries again at once, with the summary page; only where it takes longer than `ALERT_GRACE`, or
    fails, are they sent without it.
    """
    reported = report_case(context, case)
    known = {name: d for name, d in context.destinations.items() if reports_alerts(name)}
    planned: dict[str, str | None] = {name: None for name, d in known.items() if d.skip_reason(reported) is None}
    work = [Work(STAGE_OF[CaseState.DETECTED], case.case_id)]
    levels = escalation_times(context.settings)
    return context.ledger.deliveries.plan(
        case.case_id, case.state, CaseState.DETECTED, planned, escalation=levels, wait=ALERT_GRACE, work=work, **facts
    )


def escalation_times(settings: Settings) -> list[timedelta]:
    """When each level of an alert's escalation is due, from the finding."""
    return [timedelta(minutes=level.after_min) for level in settings.deliver.escalation]


def plan_deliveries(context: WorkerContext, case: Case, facts: Facts) -> bool:
    """Plan a delivery to each destination that gets results, and the escalation of an alert; moves the case to `delivering`.

    Where every destination skips the case, that ends it.
    """
    reported = report_case(context, case)
    planned = {name: d.skip_reason(reported) for name, d in context.destinations.items() if gets_results(name)}
    for refused in context.ledger.deliveries.of(case.case_id):  # an operator has started the case again
        if refused.state is DeliveryState.REFUSED and refused.destination not in planned:
            destination = context.destinations.get(refused.destination)
            planned[refused.destination] = "no longer in the settings" if destination is None else destination.skip_reason(reported)
    finding = reported.result.finding
    levels = escalation_times(context.settings)
    alert = finding is not None and finding.alert
    moved = context.ledger.deliveries.plan(
        case.case_id, case.state, CaseState.DELIVERING, planned, escalation=levels if alert else None, **facts
    )
    if moved and all(skip is not None for skip in planned.values()):
        write_last_result(context, case.case_id)
    return moved
