"""The frame around one delivery: each destination has its own state and its own patience."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import structlog

from corewatch.errors import OperatorNeeded, RetryLater
from corewatch.limits import VISIBILITY_MARGIN_S
from corewatch.states import ENDS, CaseState, DeliveryState, Stage
from ledger.cases import Case
from ledger.deliveries import Delivery
from outputs.case import ReportedCase
from outputs.destinations.base import Destination
from outputs.destinations.pacs import PacsDestination
from worker.committing import deliver_committed
from worker.context import WorkerContext
from worker.running import describe, frames
from worker.stages.deliver import deliver
from worker.stages.render import render, write_result

log = structlog.get_logger()

FOLDER = "folder"


def run_delivery(context: WorkerContext, case_id: str, destination: str, *, redelivered: bool) -> None:
    """Bring one case to one destination; does nothing when that has an end already."""
    structlog.contextvars.bind_contextvars(case=case_id, destination=destination)
    try:
        lease_s = context.settings.work.limits.hard_s(Stage.DELIVER) + VISIBILITY_MARGIN_S / 4
        delivery = context.ledger.deliveries.begin(case_id, destination, lease_s=lease_s, takeover=redelivered)
        case = context.ledger.cases.get(case_id)
        if delivery is None or case is None:
            log.info("nothing to do: the delivery has an end or is being done")
            return
        if case.state is CaseState.SUPERSEDED:
            _end(context, case, destination, DeliveryState.SKIPPED, "a later revision took this result's place")
            return
        if delivery.attempts > context.settings.deliver.attempts:
            gone = f"given up after {context.settings.deliver.attempts} attempts; the worker ended each time"
            _end(context, case, destination, DeliveryState.REFUSED, gone)
            return
        try:
            outcome, detail = _bring(context, _rendered(context, case), context.destinations.get(destination))
        except OperatorNeeded as error:
            log.error("delivery refused", why=str(error))
            _end(context, case, destination, DeliveryState.REFUSED, str(error))
        except Exception as error:
            _again_or_refuse(context, case, delivery, error)
        else:
            if outcome is not DeliveryState.AWAITING:  # then the ledger has it already
                _end(context, case, destination, outcome, detail)
            log.info("delivery done", outcome=str(outcome), detail=detail)
    finally:
        structlog.contextvars.clear_contextvars()


def _bring(context: WorkerContext, case: ReportedCase, destination: Destination | None) -> tuple[DeliveryState, str]:
    if isinstance(destination, PacsDestination) and destination.commitment is not None and destination.applies(case) is None:
        return deliver_committed(context, case, destination, destination.commitment)
    return deliver(case, destination)


def _rendered(context: WorkerContext, case: Case) -> ReportedCase:
    """The case with its pages; a case that ended without a finding has none yet when its first notice goes out."""
    reported = context.reported(case)
    if case.state in ENDS and not reported.folder.result.exists():
        return render(reported)
    return reported


def _again_or_refuse(context: WorkerContext, case: Case, delivery: Delivery, error: Exception) -> None:
    """A destination that is away is waited for by the clock; a fault of ours, by the number of attempts."""
    settings = context.settings.deliver
    why, now = describe(error), context.ledger.clock()
    put_off = isinstance(error, RetryLater)
    tried = now - delivery.planned_at
    used_up = tried >= timedelta(hours=settings.give_up_h) if put_off else delivery.attempts >= settings.attempts
    if used_up:
        log.error("delivery given up", why=why, tried_s=tried.total_seconds())
        _end(context, case, delivery.destination, DeliveryState.REFUSED, f"{why} (given up after {tried})")
        return
    wait = timedelta(seconds=min(max(settings.backoff_s, tried.total_seconds()), settings.backoff_max_s))
    log.warning("delivery failed, will be tried again", why=why, wait_s=wait.total_seconds(), trace=frames(error))
    context.ledger.deliveries.release(case.case_id, delivery.destination, why=why, not_before=now + wait, counts=not put_off)


def _end(context: WorkerContext, case: Case, destination: str, state: DeliveryState, detail: str) -> None:
    ended = context.ledger.deliveries.end(case.case_id, destination, state, detail=detail, notices=context.settings.deliver.notices)
    if ended:
        write_last_result(context, case.case_id)


def write_last_result(context: WorkerContext, case_id: str) -> None:
    """The case has ended: `result.json` gets its final state and times, in the case folder and in the results folder."""
    case = context.ledger.cases.get(case_id)
    if case is None:
        return
    reported = context.reported(case)
    files = {p.stem.split(".")[0]: p.name for p in reported.folder.path.glob("*.nii.gz")}
    files |= {"summary": reported.folder.summary.name, "result": reported.folder.result.name}
    if reported.folder.dicom.is_dir():
        files["dicom"] = reported.folder.dicom.name
    reported = replace(reported, result=replace(reported.result, files=files))
    write_result(reported.result, reported.folder)
    folder = context.destinations.get(FOLDER)
    if folder is None or folder.applies(reported) is not None:
        return
    try:
        folder.deliver(reported)
    except RetryLater as error:  # the result itself is there; only its last state and times are not
        log.warning("the last result.json did not reach the results folder", why=str(error))
