"""A case of the ledger as its readers get it."""

from __future__ import annotations

from datetime import datetime

from corewatch.casefolder import CaseFolder
from corewatch.destinations import FOLDER
from corewatch.errors import OperatorNeeded
from corewatch.states import WITHOUT_RESULT, CaseState, DeliveryState, Stage
from ledger.cases import Case, HistoryLine
from ledger.deliveries import Delivery
from outputs.case import ReportedCase
from worker.stages.case_files import Found, Prepared, result_of

_WITH_FINDING = frozenset({CaseState.DETECTED, CaseState.DELIVERING, CaseState.DELIVERED})


def reported_case(case: Case, history: list[HistoryLine], deliveries: list[Delivery], folder: CaseFolder) -> ReportedCase:
    """Put together what the ledger and the case folder know.

    Parameters
    ----------
    case, history, deliveries
        The case's rows.
    folder
        Its folder; files of stages that were not reached are absent.

    Raises
    ------
    OperatorNeeded
        What the stages left there is damaged or gone. A case that has ended without a result is told of all the same.
    """
    try:
        prepared = Prepared.read(folder) if folder.prepared.exists() else None
        found = Found.read(folder) if case.state not in WITHOUT_RESULT or case.reason is None else None
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
        ended_at=_ended_at(case, history) if case.state in WITHOUT_RESULT else None,
    )


def _damaged(case: Case, what: str) -> OperatorNeeded:
    return OperatorNeeded(f"the folder of case {case.case_id} {what}", "look at the disk, and send the series again")


def _ended_at(case: Case, history: list[HistoryLine]) -> datetime:
    return next((line.at for line in reversed(history) if line.event == f"case.{case.state}"), case.updated_at)


def _last(history: list[HistoryLine], event: str) -> datetime | None:
    return next((line.at for line in reversed(history) if line.event == event), None)


def _seconds_between(history: list[HistoryLine], first: str, second: str) -> float | None:
    start, end = _last(history, first), _last(history, second)
    return None if start is None or end is None else max(0.0, (end - start).total_seconds())


def _sent(deliveries: list[Delivery]) -> list[Delivery]:
    return [d for d in deliveries if d.state is DeliveryState.SENT and d.sent_at is not None]


def _deliver_seconds(history: list[HistoryLine], deliveries: list[Delivery]) -> float | None:
    start = _last(history, f"case.{CaseState.DELIVERING}")
    ends = [d.sent_at for d in _sent(deliveries) if d.sent_at is not None]
    return None if start is None or not ends else max(0.0, (max(ends) - start).total_seconds())


def _alert_seconds(case: Case, deliveries: list[Delivery]) -> float | None:
    """From the last image to the first person: a result that is in the folder alone has reached nobody."""
    ends = [d.sent_at for d in _sent(deliveries) if d.destination != FOLDER and d.sent_at is not None]
    return None if not ends else max(0.0, (min(ends) - case.last_stored_at).total_seconds())
