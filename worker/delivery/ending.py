"""What ends a delivery, and with the last one the case."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Final

import structlog

from config.delivery import DeliverSettings
from corewatch.destinations import FOLDER
from corewatch.errors import RetryLater
from corewatch.states import ENDS, DeliveryState
from ledger.cases import Case
from outputs.case import ReportedCase
from worker.context import WorkerContext
from worker.delivery.destinations import naming_of
from worker.stages.render import render, write_result

log = structlog.get_logger()

SUPERSEDED: Final = "a later revision took this result's place"


def rendered(context: WorkerContext, case: Case) -> ReportedCase:
    """The case with its pages; a case that ended without a finding has none yet when its first notice goes out."""
    reported = context.reported(case)
    if case.state in ENDS and not reported.folder.result.exists():
        return render(reported, naming_of(context.settings))
    return reported


def waiting_time(settings: DeliverSettings, tried: timedelta) -> timedelta:
    """Wait after a failed attempt, when it has been tried for so long already."""
    return timedelta(seconds=min(max(settings.backoff_s, tried.total_seconds()), settings.backoff_max_s))


def end(context: WorkerContext, case_id: str, destination: str, state: DeliveryState, detail: str) -> None:
    """End a delivery; the case's last one ends the case."""
    ended = context.ledger.deliveries.end(case_id, destination, state, detail=detail, notices=context.settings.deliver.notices)
    if ended:
        write_last_result(context, case_id)


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
    if folder is None or folder.skip_reason(reported) is not None:
        return
    try:
        folder.deliver(reported)
    except RetryLater as error:  # the result itself is there; only its last state and times are not
        log.warning("the last result.json did not reach the results folder", why=str(error))
