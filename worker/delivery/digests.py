"""Mails that do not go out alone: they wait for their place, or go into one digest with everything else that waits."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

import structlog

from config.delivery import EmailSettings
from corewatch.errors import OperatorNeeded, RetryLater
from corewatch.letters import LetterKind
from corewatch.mail_throttle import MailLimits, SendMode, is_urgent
from corewatch.states import CaseState, DeliveryState
from foundation.safe_errors import describe_error, error_frames
from ledger.cases import Case
from ledger.deliveries import Delivery
from outputs.case import ReportedCase
from outputs.destinations.base import Delivered
from outputs.destinations.email import MailDestination
from worker.context import WorkerContext, holder_name
from worker.delivery.circuit_breaker import asking
from worker.delivery.ending import SUPERSEDED, end, waiting_time

log = structlog.get_logger()

MOST_ALERTS_FIRST: Final = 5
"""Alerts that a digest lets go before it, at most: each may take as long as a mail server is waited for."""


def held_back(context: WorkerContext, case: Case, delivery: Delivery, lease_s: float, run: Callable[..., None]) -> bool:
    """Decide about a claimed delivery; False: it goes out alone, now, by the caller.

    Parameters
    ----------
    run
        `run_delivery`, for alerts that go before a digest.
    """
    destination, settings = context.destinations.get(delivery.destination), context.settings.deliver.email
    if settings is None or not isinstance(destination, MailDestination) or not destination.paced:
        return False
    limits, ledger = limits_of(settings), context.ledger
    digest = delivery.digest
    if digest is not None:
        ledger.digests.resume(digest, case.case_id, delivery.destination, lease_s=lease_s, holder=holder_name())
    else:
        reported = context.reported(case)
        alert = destination.kind(reported) is LetterKind.ALERT
        if destination.skip_reason(reported) is not None or is_urgent(alert, case.last_stored_at, limits, ledger.clock()):
            return False
        decision = ledger.digests.decide(
            case.case_id, delivery.destination, limits, alerts_apart=destination.alerts, lease_s=lease_s, holder=holder_name()
        )
        if decision.verdict.until is not None:
            log.info("waits for its place among the mails", until=decision.verdict.until.isoformat())
            ledger.deliveries.release(
                case.case_id, delivery.destination, why="waits for its place among the mails of the hour",
                not_before=decision.verdict.until, counts=False, event="delivery.waits",
            )  # fmt: skip
            return True
        if decision.verdict.mode is SendMode.ALONE or decision.digest is None:
            return False
        digest = decision.digest
    if destination.alerts:
        _alerts_first(context, delivery.destination, limits, run)
    _send(context, case, delivery, digest, destination)
    return True


def limits_of(settings: EmailSettings) -> MailLimits:
    """The bounds that the settings name."""
    return MailLimits(settings.max_per_hour, timedelta(minutes=settings.digest_every_min), timedelta(hours=settings.alert_alone_h))


def _alerts_first(context: WorkerContext, destination: str, limits: MailLimits, run: Callable[..., None]) -> None:
    for case_id in context.ledger.digests.urgent(destination, limits, MOST_ALERTS_FIRST):
        run(context, case_id, destination, redelivered=False)
        states = {d.destination: d.state for d in context.ledger.deliveries.of(case_id)}
        if states.get(destination) is DeliveryState.PENDING:
            return  # the mail server is away: the digest will find out by itself


def _send(context: WorkerContext, leader: Case, delivery: Delivery, digest: str, destination: MailDestination) -> None:
    structlog.contextvars.bind_contextvars(case=leader.case_id, destination=delivery.destination, digest=digest)
    told = _members(context, delivery, digest, destination)
    try:
        outcomes = _together(context, destination, digest, told) if told else {}
    except OperatorNeeded as error:
        log.error("digest refused", why=str(error))
        for case in told:
            end(context, case.case_id, delivery.destination, DeliveryState.REFUSED, str(error))
    except Exception as error:
        _later(context, leader, delivery, digest, error)
    else:
        for case_id, outcome in outcomes.items():
            if isinstance(outcome, Delivered):
                end(context, case_id, delivery.destination, DeliveryState.SENT, outcome.detail)
            elif isinstance(outcome, OperatorNeeded):
                end(context, case_id, delivery.destination, DeliveryState.REFUSED, str(outcome))
        waiting = [outcome for outcome in outcomes.values() if isinstance(outcome, RetryLater)]
        refused = sum(isinstance(outcome, OperatorNeeded) for outcome in outcomes.values())
        log.info("digest sent", cases=len(outcomes) - len(waiting) - refused, refused=refused, waiting=len(waiting))
        if waiting:
            _later(context, leader, delivery, digest, waiting[0])


def _together(
    context: WorkerContext, destination: MailDestination, digest: str, told: list[ReportedCase]
) -> dict[str, Delivered | RetryLater | OperatorNeeded]:
    with asking(context, destination):
        return destination.deliver_together(digest, told)


def _members(context: WorkerContext, delivery: Delivery, digest: str, destination: MailDestination) -> list[ReportedCase]:
    """The cases to be told of. One that cannot be told of is tried again by itself and holds up no other."""
    ledger, told = context.ledger, list[ReportedCase]()
    for case_id in ledger.digests.members(digest, delivery.destination):
        case = ledger.cases.get(case_id)
        if case is None:
            continue
        try:
            reported = context.reported(case)
            why = SUPERSEDED if case.state is CaseState.SUPERSEDED else destination.skip_reason(reported)
        except OperatorNeeded as error:
            end(context, case_id, delivery.destination, DeliveryState.REFUSED, str(error))
            continue
        except Exception as error:
            again = ledger.clock() + waiting_time(context.settings.deliver, ledger.clock() - delivery.planned_at)
            log.warning("left out of the digest", left_out=case_id, why=describe_error(error), trace=error_frames(error))
            ledger.deliveries.release(case_id, delivery.destination, why=describe_error(error), not_before=again, counts=True)
            continue
        if why is not None:
            end(context, case_id, delivery.destination, DeliveryState.SKIPPED, why)
        else:
            told.append(reported)
    return told


def _later(context: WorkerContext, leader: Case, delivery: Delivery, digest: str, error: Exception) -> None:
    """Give what is still open of the digest back."""
    ledger, why = context.ledger, describe_error(error)
    now = ledger.clock()
    if isinstance(error, RetryLater):
        _give_up_oldest(context, digest, delivery.destination, why)
    wait = waiting_time(context.settings.deliver, now - delivery.planned_at)
    log.warning("digest failed, will be tried again", why=why, wait_s=wait.total_seconds(), trace=error_frames(error))
    counts = not isinstance(error, RetryLater)
    ledger.digests.release(digest, leader.case_id, delivery.destination, why=why, not_before=now + wait, counts=counts)


def _give_up_oldest(context: WorkerContext, digest: str, destination: str, why: str) -> None:
    now, patience = context.ledger.clock(), timedelta(hours=context.settings.deliver.give_up_h)
    for case_id in context.ledger.digests.members(digest, destination):
        planned = next(d.planned_at for d in context.ledger.deliveries.of(case_id) if d.destination == destination)
        if now - planned >= patience:
            end(context, case_id, destination, DeliveryState.REFUSED, f"{why} (given up after {now - planned})")
