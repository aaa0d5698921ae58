"""The frame around one delivery: each destination has its own state and its own patience."""

from __future__ import annotations

from datetime import timedelta

import structlog

from corewatch.errors import OperatorNeeded, RetryLater
from corewatch.stage_limits import VISIBILITY_MARGIN_S
from corewatch.states import CaseState, DeliveryState, Stage
from foundation.safe_errors import describe_error, error_frames
from ledger.cases import Case
from ledger.deliveries import Delivery
from outputs.case import ReportedCase
from outputs.destinations.base import Destination
from outputs.destinations.pacs import PacsDestination
from worker.context import WorkerContext, holder_is_gone, holder_name, on_this_host
from worker.delivery.circuit_breaker import asking
from worker.delivery.commitment import deliver_committed
from worker.delivery.deliver import deliver
from worker.delivery.digests import held_back
from worker.delivery.ending import SUPERSEDED, end, rendered, waiting_time

log = structlog.get_logger()


def run_delivery(context: WorkerContext, case_id: str, destination: str, *, redelivered: bool) -> None:
    """Bring one case to one destination; does nothing when that has an end already."""
    structlog.contextvars.bind_contextvars(case=case_id, destination=destination)
    try:
        delivery = _claim(context, case_id, destination, redelivered=redelivered)
        case = context.ledger.cases.get(case_id)
        if delivery is None or case is None:
            log.info("nothing to do: the delivery has an end or is being done")
            return
        if case.state is CaseState.SUPERSEDED:
            end(context, case_id, destination, DeliveryState.SKIPPED, SUPERSEDED)
            return
        if delivery.attempts > context.settings.deliver.attempts:
            gone = f"given up after {context.settings.deliver.attempts} attempts; the worker ended each time"
            end(context, case_id, destination, DeliveryState.REFUSED, gone)
            return
        try:
            if held_back(context, case, delivery, lease_s(context), run_delivery):
                return
            outcome, detail = _bring(context, rendered(context, case), context.destinations.get(destination))
        except OperatorNeeded as error:
            log.error("delivery refused", why=str(error))
            end(context, case_id, destination, DeliveryState.REFUSED, str(error))
        except Exception as error:
            _again_or_refuse(context, case, delivery, error)
        else:
            if outcome is not DeliveryState.AWAITING:  # then the ledger has it already
                end(context, case_id, destination, outcome, detail)
            log.info("delivery done", outcome=str(outcome), detail=detail)
    finally:
        structlog.contextvars.clear_contextvars()


def _bring(context: WorkerContext, case: ReportedCase, destination: Destination | None) -> tuple[DeliveryState, str]:
    if destination is None or destination.skip_reason(case) is not None:
        return deliver(case, destination)
    with asking(context, destination):
        if isinstance(destination, PacsDestination) and destination.commitment is not None:
            return deliver_committed(context, case, destination, destination.commitment)
        return deliver(case, destination)


def lease_s(context: WorkerContext) -> float:
    """How long a claimed delivery is left to its worker."""
    return context.settings.work.limits.hard_s(Stage.DELIVER) + VISIBILITY_MARGIN_S / 4


def _claim(context: WorkerContext, case_id: str, destination: str, *, redelivered: bool) -> Delivery | None:
    """A message that comes again says that its own worker is gone; the delivery may be another's, which lives and has it in a
    digest."""
    deliveries, me = context.ledger.deliveries, holder_name()
    holder = next((d.holder for d in deliveries.of(case_id) if d.destination == destination), None)
    takeover = redelivered and (holder is None or holder == me or not _lives_here(holder))
    return deliveries.begin(case_id, destination, lease_s=lease_s(context), takeover=takeover, holder=me)


def _lives_here(holder: str) -> bool:
    return on_this_host(holder) and not holder_is_gone(holder)


def _again_or_refuse(context: WorkerContext, case: Case, delivery: Delivery, error: Exception) -> None:
    """A destination that is away is waited for by the clock; a fault of ours, by the number of attempts."""
    settings = context.settings.deliver
    why, now = describe_error(error), context.ledger.clock()
    put_off = isinstance(error, RetryLater)
    tried = now - delivery.planned_at
    used_up = tried >= timedelta(hours=settings.give_up_h) if put_off else delivery.attempts >= settings.attempts
    if used_up:
        log.error("delivery given up", why=why, tried_s=tried.total_seconds())
        end(context, case.case_id, delivery.destination, DeliveryState.REFUSED, f"{why} (given up after {tried})")
        return
    wait = waiting_time(settings, tried)
    log.warning("delivery failed, will be tried again", why=why, wait_s=wait.total_seconds(), trace=error_frames(error))
    context.ledger.deliveries.release(case.case_id, delivery.destination, why=why, not_before=now + wait, counts=not put_off)
