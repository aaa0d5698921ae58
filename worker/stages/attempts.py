"""One attempt at a stage of a case: claim it in the ledger, run the stage, move the case on; and what each kind of error leads to.

Where files of our own are damaged, the case goes back to the stage that makes them again (`worker.stages.recovery`). Otherwise
`NotAnalysed` ends the case with its reason. `OperatorNeeded` fails it. Any other error is a failed attempt: the stage is retried
after a wait that doubles each time, until the attempts that the ledger counts are used up.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import structlog

from corewatch.errors import CorewatchError, NotAnalysed, OperatorNeeded
from corewatch.stage_limits import VISIBILITY_MARGIN_S
from corewatch.states import CaseState, PipelineStep, Stage
from foundation.backoff import Backoff
from foundation.safe_errors import describe_error, error_frames
from ledger.cases import Case
from worker.context import WorkerContext, holder_name
from worker.stages.recovery import check_received, step_back

log = structlog.get_logger()

BACKOFF = Backoff(5.0)
"""Waits after failed attempts at a stage; `work.attempts` limits how many there are."""

Facts = dict[str, Any]
"""Columns of the case that a stage fills in the ledger, by name."""


def run_stage(
    context: WorkerContext,
    case_id: str,
    step: PipelineStep,
    body: Callable[[WorkerContext, Case], Facts],
    advance: Callable[[WorkerContext, PipelineStep, Case, Facts], bool],
    *,
    redelivered: bool,
) -> bool:
    """Attempt a stage of a case; does nothing where the case is no longer in the state before that stage, or another worker has it.

    Parameters
    ----------
    step
        The stage with the states before and after it.
    body
        Does the work in the case folder. Idempotent. Returns the facts for the ledger.
    advance
        Moves the case to the state after the stage, with these facts.
    redelivered
        The broker delivers the message again because its first worker is gone: the claim of that worker is taken over.

    Returns
    -------
    Whether the attempt failed by an error that corewatch does not know (a library's, the device's).
    """
    limits = context.settings.work.limits
    # longer than the hard time limit, shorter than the broker's visibility timeout
    lease_s = limits.hard_s(step.stage) + VISIBILITY_MARGIN_S / 4
    structlog.contextvars.bind_contextvars(case=case_id, stage=str(step.stage))
    try:
        case = context.ledger.cases.begin(case_id, step.before, holder=holder_name(), lease_s=lease_s, takeover=redelivered)
        if case is None:
            log.info("stage_not_due")
            return False
        if case.attempts > context.settings.work.attempts:
            _fail(context, case, step, f"given up after {context.settings.work.attempts} attempts; the worker ended each time")
            return False
        try:
            advance(context, step, case, body(context, case))
        except Exception as error:
            return _failed(context, case, step, error)
        log.info("stage_done")
        return False
    finally:
        structlog.contextvars.clear_contextvars()


def _failed(context: WorkerContext, case: Case, step: PipelineStep, error: Exception) -> bool:
    """What an error of a stage leads to; whether corewatch does not know the error."""
    try:
        # our own files first: what they lack says nothing of the images
        if step.stage is Stage.PREPARE:
            check_received(context, case)
        elif step_back(context, case, step.before):
            return False
    except OperatorNeeded as damaged:
        error = damaged
    if isinstance(error, NotAnalysed):
        log.info("case_not_analysed", reason=str(error.reason), detail=error.detail)
        _end(context, case, step, CaseState.NOT_ANALYSED, reason=error.reason, detail=error.detail, failed_stage=step.stage)
    elif isinstance(error, OperatorNeeded):
        _fail(context, case, step, str(error))
    else:
        _retry_or_fail(context, case, step, error)
        return not isinstance(error, CorewatchError)
    return False


def _retry_or_fail(context: WorkerContext, case: Case, step: PipelineStep, error: Exception) -> None:
    why = describe_error(error)
    if case.attempts >= context.settings.work.attempts:
        _fail(context, case, step, f"{why} (attempt {case.attempts}, the last)")
        return
    wait = timedelta(seconds=BACKOFF.delay_s(case.attempts))
    log.warning("stage_attempt_failed", why=why, attempt=case.attempts, retry_in_s=wait.total_seconds(), trace=error_frames(error))
    not_before = context.ledger.clock() + wait
    context.ledger.cases.release(case.case_id, step.before, holder=case.holder or "", why=why, not_before=not_before)


def _fail(context: WorkerContext, case: Case, step: PipelineStep, why: str) -> None:
    log.error("case_failed", why=why)
    _end(context, case, step, CaseState.FAILED, detail=why, failed_stage=step.stage)


def _end(context: WorkerContext, case: Case, step: PipelineStep, after: CaseState, **facts: Any) -> None:
    """End the case before the state that the stage leads to, and plan the notices about it."""
    deliver = context.settings.deliver
    destinations = deliver.not_analysed_notices if after is CaseState.NOT_ANALYSED else deliver.notices
    notices: dict[str, str | None] = dict.fromkeys(destinations)
    context.ledger.deliveries.plan(case.case_id, step.before, after, notices, **facts)
