"""Mail deliveries within the hourly limit: sent alone, deferred, or sent together in one digest."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

import structlog

from config.delivery import EmailSettings
from corewatch.errors import OperatorNeeded, RetryLater
from corewatch.mail_receipts import MailKind
from corewatch.mail_throttle import MailLimits, SendMode, is_urgent
from corewatch.states import CaseState, DeliveryState
from foundation.safe_errors import describe_error, error_frames
from ledger.cases import Case
from ledger.deliveries import Delivery
from outputs.case import ReportedCase
from outputs.destinations import Delivered
from outputs.destinations.email import MailDestination
from worker.context import WorkerContext, holder_name
from worker.delivery.circuit_breaker import guarded_attempt
from worker.delivery.reporting import SUPERSEDED, finish_delivery, report_case, retry_delay

log = structlog.get_logger()

MAX_ALERTS_BEFORE_DIGEST: Final = 5
"""Alerts that are sent before a digest, at most: each may take as long as the mail server's timeout."""


def defer_or_digest(
    context: WorkerContext, case: Case, delivery: Delivery, lease_s: float, run_delivery: Callable[..., None]
) -> bool:  # fmt: skip
    """Defer a claimed mail, or send it in a digest with all that waits; False: the caller sends it alone, now.

    Parameters
    ----------
    run_delivery
        `worker.delivery.sending.run_delivery`, for alerts that are sent before the digest.
    """
    destination, settings = context.destination(delivery.destination), context.settings.deliver.email
    if settings is None or not isinstance(destination, MailDestination) or not destination.throttled:
        return False
    limits, ledger = limits_of(settings), context.ledger
    digest = delivery.digest
    if digest is not None:
        ledger.digests.resume(digest, case.case_id, delivery.destination, lease_s=lease_s, holder=holder_name())
    else:
        reported = report_case(context, case)
        alert = destination.kind(reported) is MailKind.ALERT
        if destination.skip_reason(reported) is not None or is_urgent(alert, case.last_stored_at, limits, ledger.clock()):
            return False
        decision = ledger.digests.decide(
            case.case_id,
            delivery.destination,
            limits,
            alerts_apart=destination.carries_alerts,
            lease_s=lease_s,
            holder=holder_name(),
        )
        if decision.verdict.until is not None:
            log.info("mail_deferred", until=decision.verdict.until.isoformat())
            ledger.deliveries.release(
                case.case_id, delivery.destination, why="waits for its place among the mails of the hour",
                not_before=decision.verdict.until, counts=False, event="delivery.waits",
            )  # fmt: skip
            return True
        if decision.verdict.mode is SendMode.ALONE or decision.digest is None:
            return False
        digest = decision.digest
    if destination.carries_alerts:
        _send_alerts_first(context, delivery.destination, limits, run_delivery)
    _send_digest(context, case, delivery, digest, destination)
    return True


def limits_of(settings: EmailSettings) -> MailLimits:
    """The limits that the settings name."""
    return MailLimits(settings.max_per_hour, timedelta(minutes=settings.digest_every_min), timedelta(hours=settings.alert_alone_h))


def _send_alerts_first(context: WorkerContext, destination: str, limits: MailLimits, run_delivery: Callable[..., None]) -> None:
    for case_id in context.ledger.digests.urgent(destination, limits, MAX_ALERTS_BEFORE_DIGEST):
        run_delivery(context, case_id, destination, redelivered=False)
        states = {d.destination: d.state for d in context.ledger.deliveries.of(case_id)}
        if states.get(destination) is DeliveryState.PENDING:
            return  # the mail server is away: the attempt of the digest will notice


def _send_digest(context: WorkerContext, leader: Case, delivery: Delivery, digest: str, destination: MailDestination) -> None:
    """Send one mail about all cases of the digest; `leader` is the case whose delivery claimed it."""
    structlog.contextvars.bind_contextvars(case=leader.case_id, destination=delivery.destination, digest=digest)
    cases = _reportable_cases(context, delivery, digest, destination)
    outcomes: dict[str, Delivered | RetryLater | OperatorNeeded] = {}
    try:
        if cases:
            with guarded_attempt(context, destination):
                outcomes = destination.deliver_together(digest, cases)
    except OperatorNeeded as error:
        log.error("digest_refused", why=str(error))
        for case in cases:
            finish_delivery(context, case.case_id, delivery.destination, DeliveryState.REFUSED, str(error))
    except Exception as error:
        _retry_later(context, leader, delivery, digest, error)
    else:
        for case_id, outcome in outcomes.items():
            if isinstance(outcome, Delivered):
                finish_delivery(context, case_id, delivery.destination, DeliveryState.SENT, outcome.detail)
            elif isinstance(outcome, OperatorNeeded):
                finish_delivery(context, case_id, delivery.destination, DeliveryState.REFUSED, str(outcome))
        waiting = [outcome for outcome in outcomes.values() if isinstance(outcome, RetryLater)]
        refused = sum(isinstance(outcome, OperatorNeeded) for outcome in outcomes.values())
        log.info("digest_sent", cases=len(outcomes) - len(waiting) - refused, refused=refused, waiting=len(waiting))
        if waiting:
            _retry_later(context, leader, delivery, digest, waiting[0])


def _reportable_cases(context: WorkerContext, delivery: Delivery, digest: str, destination: MailDestination) -> list[ReportedCase]:
    """The cases of the digest that can be reported. One that cannot be is retried by itself and does not delay the others."""
    ledger, cases = context.ledger, list[ReportedCase]()
    for case_id in ledger.digests.members(digest, delivery.destination):
        case = ledger.cases.get(case_id)
        if case is None:
            continue
        try:
            reported = report_case(context, case)
            skip_reason = SUPERSEDED if case.state is CaseState.SUPERSEDED else destination.skip_reason(reported)
        except OperatorNeeded as error:
            finish_delivery(context, case_id, delivery.destination, DeliveryState.REFUSED, str(error))
            continue
        except Exception as error:
            not_before = ledger.clock() + retry_delay(context.settings.deliver, ledger.clock() - delivery.planned_at)
            why = describe_error(error)
            log.warning("case_left_out_of_digest", left_out=case_id, why=why, trace=error_frames(error))
            ledger.deliveries.release(case_id, delivery.destination, why=why, not_before=not_before, counts=True)
            continue
        if skip_reason is not None:
            finish_delivery(context, case_id, delivery.destination, DeliveryState.SKIPPED, skip_reason)
        else:
            cases.append(reported)
    return cases


def _retry_later(context: WorkerContext, leader: Case, delivery: Delivery, digest: str, error: Exception) -> None:
    """Release the claims of the deliveries in the digest that are not sent yet."""
    ledger, why = context.ledger, describe_error(error)
    now = ledger.clock()
    if isinstance(error, RetryLater):
        _give_up_oldest(context, digest, delivery.destination, why)
    wait = retry_delay(context.settings.deliver, now - delivery.planned_at)
    log.warning("digest_attempt_failed", why=why, retry_in_s=wait.total_seconds(), trace=error_frames(error))
    counts = not isinstance(error, RetryLater)
    ledger.digests.release(digest, leader.case_id, delivery.destination, why=why, not_before=now + wait, counts=counts)


def _give_up_oldest(context: WorkerContext, digest: str, destination: str, why: str) -> None:
    now, patience = context.ledger.clock(), timedelta(hours=context.settings.deliver.give_up_h)
    for case_id in context.ledger.digests.members(digest, destination):
        planned = next(d.planned_at for d in context.ledger.deliveries.of(case_id) if d.destination == destination)
        if now - planned >= patience:
            detail = f"{why} (given up after {now - planned})"
            finish_delivery(context, case_id, destination, DeliveryState.REFUSED, detail)
