"""One attempt to deliver a case to one destination: claim the delivery in the ledger, send, record the outcome.

Each destination of a case has its own state and its own retries. A destination that is away is retried until `deliver.give_up_h`
has passed. An attempt that ends by an unknown error, or with its worker, counts towards `deliver.attempts`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import structlog

from corewatch.destinations import alerts_people, is_only_notice, reports_alerts
from corewatch.errors import DeliveryWithdrawn, OperatorNeeded, RetryLater, SlowAnswer
from corewatch.stage_limits import VISIBILITY_MARGIN_S
from corewatch.states import CaseState, DeliveryState, Stage
from corewatch.storage_commitment import Committed, NotCommitted, next_commitment_step
from foundation.dicom_client.commitment import new_transaction_uid
from foundation.safe_errors import describe_error, error_frames
from ledger.cases import Case
from ledger.deliveries import Delivery
from outputs.case import ReportedCase
from outputs.destinations import Destination
from outputs.destinations.pacs import PacsDestination
from worker.context import WorkerContext, holder_is_gone, holder_name, on_this_host
from worker.delivery.circuit_breaker import delivery_slot, guarded_attempt
from worker.delivery.digests import defer_or_digest
from worker.delivery.reporting import SUPERSEDED, ensure_rendered, finish_delivery, retry_delay
from worker.stages.recovery import step_back

log = structlog.get_logger()

FILES_WAIT: Final = timedelta(seconds=60)
"""Wait of a delivery while files of its case are made again; the last stage plans it again sooner."""

_BEFORE_DELIVERY: Final = frozenset({CaseState.QUEUED, CaseState.PREPARED, CaseState.DETECTED})

SLOT_WAIT: Final = timedelta(seconds=2)
"""Wait before a delivery looks again for a free process."""


def run_delivery(context: WorkerContext, case_id: str, destination: str, *, redelivered: bool) -> None:
    """Attempt a delivery; does nothing where it has ended or another worker has it.

    Parameters
    ----------
    destination
        Name of the destination in the settings.
    redelivered
        The broker delivers the message again because its first worker is gone.
    """
    structlog.contextvars.bind_contextvars(case=case_id, destination=destination)
    try:
        with delivery_slot(context, context.destination(destination)) as has_slot:
            if not has_slot:
                _wait_for_slot(context, case_id, destination)
                return
            _run(context, case_id, destination, redelivered=redelivered)
    finally:
        structlog.contextvars.clear_contextvars()


def _wait_for_slot(context: WorkerContext, case_id: str, destination: str) -> None:
    """Post the delivery again for a moment later: the other processes wait for servers, and this one is kept for alerts."""
    context.ledger.deliveries.postpone(case_id, destination, context.ledger.clock() + SLOT_WAIT)


def _run(context: WorkerContext, case_id: str, destination: str, *, redelivered: bool) -> None:
    delivery = _claim(context, case_id, destination, redelivered=redelivered)
    case = context.ledger.cases.get(case_id)
    if delivery is None or case is None:
        log.info("delivery_not_due")
        return
    if case.state is CaseState.SUPERSEDED:
        finish_delivery(context, case_id, destination, DeliveryState.SKIPPED, SUPERSEDED)
        return
    if delivery.attempts > context.settings.deliver.attempts:
        why = f"given up after {context.settings.deliver.attempts} attempts; the worker ended each time"
        finish_delivery(context, case_id, destination, DeliveryState.REFUSED, why)
        return
    if _must_wait(case.state, destination):
        _wait_for_files(context, case_id, destination)
        return
    try:
        if defer_or_digest(context, case, delivery, _lease_s(context), run_delivery):
            return
        outcome, detail = _send(context, ensure_rendered(context, case), context.destination(destination))
    except OperatorNeeded as error:
        if _made_again(context, case, destination):
            return
        log.error("delivery_refused", why=str(error))
        finish_delivery(context, case_id, destination, DeliveryState.REFUSED, str(error))
    except Exception as error:
        _retry_or_refuse(context, case, delivery, error)
    else:
        if outcome is not DeliveryState.AWAITING:  # the ledger has recorded that already
            finish_delivery(context, case_id, destination, outcome, detail)
        log.info("delivery_done", outcome=str(outcome), detail=detail)


def _must_wait(state: CaseState, destination: str) -> bool:
    """Whether the files of the case are made again before it can be delivered there; an alert needs its finding only."""
    if is_only_notice(destination) or state not in _BEFORE_DELIVERY:
        return False
    return state is not CaseState.DETECTED or not (reports_alerts(destination) or alerts_people(destination))


def _wait_for_files(context: WorkerContext, case_id: str, destination: str) -> None:
    not_before, why = context.ledger.clock() + FILES_WAIT, "files of the case are made again first"
    context.ledger.deliveries.release(
        case_id, destination, why=why, not_before=not_before, counts=False, event="delivery.waits"
    )  # fmt: skip


def _made_again(context: WorkerContext, case: Case, destination: str) -> bool:
    """Move a case whose files are damaged back to the stage that makes them again; its deliveries wait. False: they are whole."""
    if case.state is not CaseState.DELIVERING:
        return False
    try:
        if not step_back(context, case, CaseState.DELIVERING):
            return False
    except OperatorNeeded as error:
        log.error("case_files_damaged_again", why=str(error))
        return False
    _wait_for_files(context, case.case_id, destination)
    return True


def _claim(context: WorkerContext, case_id: str, destination: str, *, redelivered: bool) -> Delivery | None:
    """Claim the delivery. A redelivered message takes over the claim of a worker that is gone.

    Not the claim of a worker that lives on this host: it has the delivery in a digest, whose message is another one.
    """
    deliveries, me = context.ledger.deliveries, holder_name()
    holder = next((d.holder for d in deliveries.of(case_id) if d.destination == destination), None)
    takeover = redelivered and (holder is None or holder == me or not on_this_host(holder) or holder_is_gone(holder))
    return deliveries.begin(case_id, destination, lease_s=_lease_s(context), takeover=takeover, holder=me)


def _lease_s(context: WorkerContext) -> float:
    """Seconds for which a claim holds: longer than the hard time limit, shorter than the broker's visibility timeout."""
    return context.settings.work.limits.hard_s(Stage.DELIVER) + VISIBILITY_MARGIN_S / 4


def _send(context: WorkerContext, case: ReportedCase, destination: Destination | None) -> tuple[DeliveryState, str]:
    """Send the result; sending it again sends the same objects. Returns the state of the delivery and a line for the record.

    Raises
    ------
    RetryLater
        The destination cannot take it now.
    OperatorNeeded
        The destination will not take it, or is no longer in the settings.
    """
    if destination is None:
        raise OperatorNeeded("this destination is no longer in the settings", "add it again or cancel the delivery")
    reason = destination.skip_reason(case)
    if reason is not None:
        return DeliveryState.SKIPPED, reason
    with guarded_attempt(context, destination):
        if isinstance(destination, PacsDestination) and destination.commitment_patience is not None:
            return _send_and_commit(context, case, destination, destination.commitment_patience)
        try:
            return DeliveryState.SENT, destination.deliver(case).detail
        except DeliveryWithdrawn as why:
            return DeliveryState.SKIPPED, str(why)


def _send_and_commit(
    context: WorkerContext, case: ReportedCase, destination: PacsDestination, patience: timedelta
) -> tuple[DeliveryState, str]:
    """The next step towards storage commitment: send what is not committed and request it, or evaluate the answer.

    Returns
    -------
    `sent` when every object is committed, `awaiting` while the PACS has not answered; and a line for the record.

    Raises
    ------
    RetryLater
        The PACS cannot take the objects, or the request, now.
    OperatorNeeded
        The PACS refuses, does not keep the objects, or did not answer in time.
    """
    requests, now = context.ledger.commitment_requests_sent, context.ledger.clock()
    step = next_commitment_step(requests.of(case.case_id, destination.name), now)
    if isinstance(step, Committed):
        return DeliveryState.SENT, f"{step.count} objects stored and committed"
    if isinstance(step, NotCommitted):
        raise OperatorNeeded(step.why)
    delivered, references = destination.store(case, step.leave_out)
    transaction_uid = new_transaction_uid()
    uids = [reference.sop_instance_uid for reference in references]
    requests.open(transaction_uid, case.case_id, destination.name, uids, context.ledger.clock() + patience)
    report = destination.request_commitment(transaction_uid, references)
    if report is not None:
        requests.report(report)
    detail = f"{delivered.detail}; waits for storage commitment"
    requests.wait(transaction_uid, detail)
    return DeliveryState.AWAITING, detail


def _retry_or_refuse(context: WorkerContext, case: Case, delivery: Delivery, error: Exception) -> None:
    """Retry later. `RetryLater` is given up by time, an unknown error by the number of attempts."""
    settings = context.settings.deliver
    why, now = describe_error(error), context.ledger.clock()
    is_away = isinstance(error, RetryLater)
    tried = now - delivery.planned_at
    if tried >= timedelta(hours=settings.give_up_h) if is_away else delivery.attempts >= settings.attempts:
        log.error("delivery_given_up", why=why, tried_s=tried.total_seconds())
        finish_delivery(context, case.case_id, delivery.destination, DeliveryState.REFUSED, f"{why} (given up after {tried})")
        return
    # a slow server has done a part of the work: it goes on soon, while others have a turn
    wait = timedelta(seconds=settings.backoff_s) if isinstance(error, SlowAnswer) else retry_delay(settings, tried)
    log.warning("delivery_attempt_failed", why=why, retry_in_s=wait.total_seconds(), trace=error_frames(error))
    context.ledger.deliveries.release(case.case_id, delivery.destination, why=why, not_before=now + wait, counts=not is_away)
