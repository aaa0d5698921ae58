"""From a case of the ledger to what its readers get: `ReportedCase`, its pages, and the last `result.json` when it ends."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import structlog

from config.delivery import DeliverSettings
from corewatch.destinations import FOLDER
from corewatch.errors import OperatorNeeded, RetryLater
from corewatch.mail_receipts import MailReceiptState
from corewatch.states import ENDS, WITHOUT_RESULT, CaseState, DeliveryState, Stage
from foundation.backoff import Backoff
from foundation.safe_errors import describe_error, error_frames
from ledger.audit_trail import AuditLine
from ledger.cases import Case
from ledger.deliveries import Delivery
from outputs.case import DeliveryStatus, ReportedCase
from worker.context import WorkerContext
from worker.stages.case_files import FindingRecord, PreparedRecord, result_of
from worker.stages.render import render, write_result

log = structlog.get_logger()

SUPERSEDED: Final = "a later revision took this result's place"
"""Why a delivery of an earlier revision is skipped."""

_WITH_FINDING = frozenset({CaseState.DETECTED, CaseState.DELIVERING, CaseState.DELIVERED})


def report_case(context: WorkerContext, case: Case) -> ReportedCase:
    """The case for pages, DICOM objects and mails, from the ledger and the files in its folder.

    Raises
    ------
    OperatorNeeded
        The files of a stage are damaged or lost. A case that ended without a result is reported without them.
    """
    history, deliveries = context.ledger.cases.history(case.case_id), context.ledger.deliveries.of(case.case_id)
    alert, folder = context.ledger.alerts.get(case.case_id), context.folder(case.case_id)
    try:
        prepared = PreparedRecord.read(folder) if folder.prepared.exists() else None
        found = FindingRecord.read(folder) if case.state not in WITHOUT_RESULT or case.reason is None else None
    except (ValueError, KeyError, TypeError):
        if case.state not in WITHOUT_RESULT:
            raise _damaged(case, "is damaged") from None
        prepared = found = None
    if found is None and case.state in _WITH_FINDING:
        raise _damaged(case, "has lost its finding")
    result = result_of(
        prepared,
        found,
        case_id=case.case_id,
        state=case.state,
        series_uid=case.series_uid,
        revision=case.revision,
        reason=case.reason,
        detail=case.detail,
        render_s=_seconds_between(history, f"stage.{Stage.RENDER}.begun", f"case.{CaseState.DELIVERING}"),
        deliver_s=_deliver_seconds(history, deliveries),
        last_image_to_alert_s=_alert_seconds(case, deliveries),
    )
    return ReportedCase(
        case_id=case.case_id,
        key=case.case_key or case.case_id,
        result=result,
        folder=folder,
        received_at=case.last_stored_at.astimezone(),
        analysed_at=(found.at if found is not None else _ended_at(case, history)).astimezone(),
        source_header=folder.source_header if folder.source_header.exists() else None,
        source_instances=() if prepared is None else prepared.source_instances,
        source_images=None if prepared is None else prepared.source_images,
        extra_recipients=case.email,
        study_uid=case.study_uid,
        superseded_report=_superseded_report(context, case),
        acknowledged=alert is not None and alert.acknowledged_at is not None,
        ended_at=_ended_at(case, history) if case.state in WITHOUT_RESULT else None,
        deliveries=_statuses(context, case, history, deliveries),
    )


def _superseded_report(context: WorkerContext, case: Case) -> Path | None:
    """The structured report of the latest earlier revision that has one."""
    if case.revision == 1 or case.series_uid is None:
        return None
    earlier = [other for other in context.ledger.cases.find(series_uid=case.series_uid) if other.revision < case.revision]
    reports = (context.folder(other.case_id).report for other in sorted(earlier, key=lambda other: -other.revision))
    return next((path for path in reports if path.is_file()), None)


def _damaged(case: Case, what: str) -> OperatorNeeded:
    return OperatorNeeded(f"the folder of case {case.case_id} {what}", "look at the disk, and send the series again")


def _ended_at(case: Case, history: list[AuditLine]) -> datetime:
    return next((line.at for line in reversed(history) if line.event == f"case.{case.state}"), case.updated_at)


def _last(history: list[AuditLine], event: str) -> datetime | None:
    return next((line.at for line in reversed(history) if line.event == event), None)


def _statuses(
    context: WorkerContext, case: Case, history: list[AuditLine], deliveries: list[Delivery]
) -> tuple[DeliveryStatus, ...]:  # fmt: skip
    mails = context.ledger.mail_receipts.of(case.case_id)
    accepted = Counter(mail.destination for mail in mails if mail.state is MailReceiptState.ACCEPTED)
    event = f"delivery.{DeliveryState.REFUSED}"
    refused_at = {str(line.detail.get("destination")): line.at for line in history if line.event == event}
    return tuple(
        DeliveryStatus(d.destination, d.state, d.detail, refused_at.get(d.destination), accepted[d.destination]) for d in deliveries
    )


def _seconds_between(history: list[AuditLine], first: str, second: str) -> float | None:
    start, end = _last(history, first), _last(history, second)
    return None if start is None or end is None else max(0.0, (end - start).total_seconds())


def _sent(deliveries: list[Delivery]) -> list[Delivery]:
    return [d for d in deliveries if d.state is DeliveryState.SENT and d.sent_at is not None]


def _deliver_seconds(history: list[AuditLine], deliveries: list[Delivery]) -> float | None:
    start = _last(history, f"case.{CaseState.DELIVERING}")
    ends = [d.sent_at for d in _sent(deliveries) if d.sent_at is not None]
    return None if start is None or not ends else max(0.0, (max(ends) - start).total_seconds())


def _alert_seconds(case: Case, deliveries: list[Delivery]) -> float | None:
    """From the last image to the first person: a result that is in the folder alone has reached nobody."""
    ends = [d.sent_at for d in _sent(deliveries) if d.destination != FOLDER and d.sent_at is not None]
    return None if not ends else max(0.0, (min(ends) - case.last_stored_at).total_seconds())


def ensure_rendered(context: WorkerContext, case: Case) -> ReportedCase:
    """The case with its pages. A case that ended without a finding has none until its first notice: they are made here.

    Where they cannot be made, as where that is why the case failed, it is reported without them.
    """
    reported = report_case(context, case)
    if case.state not in ENDS or reported.folder.result.exists():
        return reported
    try:
        return render(reported, context.settings.deliver.series)
    except Exception as error:
        log.error("pages_not_drawn", why=describe_error(error), trace=error_frames(error), effect="reported without them")
        write_result(reported.result, reported.folder)
        return reported


def retry_delay(settings: DeliverSettings, tried: timedelta) -> timedelta:
    """Wait before the next attempt of a delivery that has been retried for `tried`: as long again, within the bounds."""
    return timedelta(seconds=Backoff(settings.backoff_s, settings.backoff_max_s).delay_after_s(tried.total_seconds()))


def finish_delivery(context: WorkerContext, case_id: str, destination: str, state: DeliveryState, detail: str) -> None:
    """End a delivery as `sent`, `skipped` or `refused`; the last delivery of a case ends the case."""
    deliver = context.settings.deliver
    ended = context.ledger.deliveries.end(
        case_id, destination, state, detail=detail, notices=deliver.notices, reporters=deliver.refusal_reporters
    )
    if ended:
        write_last_result(context, case_id)


def write_last_result(context: WorkerContext, case_id: str) -> None:
    """Write `result.json` of a case that has ended, with its final state and times, to its folder and to the results folder."""
    case = context.ledger.cases.get(case_id)
    if case is None:
        return
    reported = report_case(context, case)
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
    except RetryLater as error:  # the result is in the results folder; only its final state and times are not
        log.warning("last_result_not_in_results_folder", why=str(error))
