"""The frame around every stage: claim, do, advance; and what becomes of each kind of error.

`NotAnalysed` ends the case with its reason; `OperatorNeeded` fails it; anything else is a failed attempt, tried again later within
a cap that the ledger counts, so that a poison case goes to an operator instead of round and round.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import structlog

from corewatch.errors import CorewatchError, NotAnalysed, OperatorNeeded
from corewatch.messages import Work
from corewatch.stage_limits import VISIBILITY_MARGIN_S
from corewatch.states import STAGE_OF, CaseState
from ledger.cases import Case
from worker.context import WorkerContext, holder_name

log = structlog.get_logger()

RETRY_AFTER_S = 5.0
"""Wait after the first failed attempt of a stage; doubles with each."""

Facts = dict[str, Any]


def run_stage(
    context: WorkerContext,
    case_id: str,
    state: CaseState,
    body: Callable[[WorkerContext, Case], Facts],
    advance: Callable[[Case, Facts], bool],
    *,
    redelivered: bool,
) -> None:
    """Run the stage that takes `case_id` out of `state`; does nothing when the case is elsewhere by now.

    Parameters
    ----------
    body
        Does the work in the case folder; may be done twice with the same outcome. Returns facts for the ledger.
    advance
        Moves the case on with these facts.
    redelivered
        The broker gave the message out again because its first worker is gone.
    """
    stage = STAGE_OF[state]
    limits = context.settings.work.limits
    lease_s = limits.hard_s(stage) + VISIBILITY_MARGIN_S / 4
    structlog.contextvars.bind_contextvars(case=case_id, stage=str(stage))
    try:
        case = context.ledger.cases.begin(case_id, state, holder=holder_name(), lease_s=lease_s, takeover=redelivered)
        if case is None:
            log.info("nothing to do: the case has moved on")
            return
        if case.attempts > context.settings.work.attempts:
            _fail(context, case, state, f"given up after {context.settings.work.attempts} attempts; the worker ended each time")
            return
        try:
            facts = body(context, case)
        except NotAnalysed as error:
            log.info("not analysed", reason=str(error.reason), detail=error.detail)
            _end(context, case, state, CaseState.NOT_ANALYSED, reason=error.reason, detail=error.detail, failed_stage=stage)
        except OperatorNeeded as error:
            _fail(context, case, state, str(error))
        except Exception as error:
            _again_or_fail(context, case, state, error)
        else:
            advance(case, facts)
            log.info("stage done")
    finally:
        structlog.contextvars.clear_contextvars()


def _again_or_fail(context: WorkerContext, case: Case, state: CaseState, error: Exception) -> None:
    why = describe(error)
    if case.attempts >= context.settings.work.attempts:
        _fail(context, case, state, f"{why} (attempt {case.attempts}, the last)")
        return
    wait = timedelta(seconds=RETRY_AFTER_S * 2 ** (case.attempts - 1))
    log.warning("attempt failed, will be tried again", why=why, attempt=case.attempts, trace=frames(error))
    not_before = context.ledger.clock() + wait
    context.ledger.cases.release(case.case_id, state, holder=case.holder or "", why=why, not_before=not_before)


def _fail(context: WorkerContext, case: Case, state: CaseState, why: str) -> None:
    log.error("case failed", why=why)
    _end(context, case, state, CaseState.FAILED, detail=why, failed_stage=STAGE_OF[state])


def _end(context: WorkerContext, case: Case, before: CaseState, after: CaseState, **facts: Any) -> None:
    deliver = context.settings.deliver
    told = deliver.not_analysed_notices if after is CaseState.NOT_ANALYSED else deliver.notices
    notices: dict[str, str | None] = dict.fromkeys(told)
    context.ledger.deliveries.plan(case.case_id, before, after, notices, **facts)


def describe(error: BaseException) -> str:
    """An error in one line, free of patient data: our own words, or else only the kind and the place of a foreign error."""
    if isinstance(error, CorewatchError):
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1:]
    place = f" at {last[0].filename.rsplit('/', 2)[-1]}:{last[0].lineno}" if last else ""
    return f"{type(error).__name__}{place}"


def frames(error: BaseException) -> Sequence[str]:
    """Where an error came from, without its message, which could hold what was read from a file."""
    return [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)]


def next_work(case: Case, state: CaseState) -> list[Work]:
    """The message for the stage that takes the case out of `state`."""
    return [Work(STAGE_OF[state], case.case_id)]
