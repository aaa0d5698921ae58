"""Follows one case through the ledger, from the first image to its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

from cli.casesview import why
from cli.demonstration.teller import Teller
from corewatch.errors import OperatorNeeded
from corewatch.states import DELIVERY_ENDS, ENDS, CaseState
from ledger.cases import Case, HistoryLine
from ledger.deliveries import Delivery
from ledger.store import Ledger

_POLL_S = 0.2

DONE: Final[dict[CaseState, str]] = {
    CaseState.QUEUED: "Series complete, accepted, queued",
    CaseState.PREPARED: "Converted and aligned to the network's grid",
    CaseState.DETECTED: "Ischemic core estimated",
    CaseState.DELIVERING: "Pages and DICOM objects made",
    CaseState.DELIVERED: "Every destination has it",
}
DOING: Final[dict[CaseState | None, str]] = {
    None: "Waiting for the case",
    CaseState.RECEIVING: "Waiting until the series is complete",
    CaseState.QUEUED: "Converting and aligning",
    CaseState.PREPARED: "Estimating the ischemic core",
    CaseState.DETECTED: "Making pages and DICOM objects",
    CaseState.DELIVERING: "Delivering",
}


def follow(
    database_url: str, series_uid: str, teller: Teller, *, limit_s: float, check: Callable[[], None]
) -> tuple[Case, list[Delivery]]:
    """Tell each step of the case as it is done; returns the case at its end, and its deliveries.

    Parameters
    ----------
    limit_s
        Longest wait in seconds.
    check
        Called again and again; raises when waiting has become useless.

    Raises
    ------
    OperatorNeeded
        The case did not end in time.
    """
    ledger = Ledger(database_url)
    told: set[str] = set()
    deadline = time.monotonic() + limit_s
    try:
        while time.monotonic() < deadline:
            check()
            case = next(iter(ledger.cases.find(series_uid=series_uid, limit=1)), None)
            if case is not None:
                _tell(case, ledger.cases.history(case.case_id), ledger.deliveries.of(case.case_id), told, teller)
                deliveries = ledger.deliveries.of(case.case_id)
                if case.state in ENDS and not _pending(deliveries):
                    if case.state is not CaseState.DELIVERED:
                        teller.stopped(f"{case.state}: {why(case)}")
                    return case, deliveries
            with teller.doing(DOING.get(None if case is None else case.state, "Delivering")):
                time.sleep(_POLL_S)
    finally:
        ledger.close()
    raise OperatorNeeded(f"the case did not come to its end within {limit_s:g} s")


def _pending(deliveries: list[Delivery]) -> bool:
    """A case that ends without a finding ends before the notices of that are on their way."""
    return any(d.state not in DELIVERY_ENDS for d in deliveries)


def _tell(case: Case, history: list[HistoryLine], deliveries: list[Delivery], told: set[str], teller: Teller) -> None:
    before = case.last_stored_at
    for state, words in DONE.items():
        at = _reached(history, state)
        if at is None:
            return
        if state is CaseState.DELIVERED:
            for delivery in sorted((d for d in deliveries if d.sent_at), key=lambda d: d.sent_at or at):
                if delivery.destination not in told and delivery.sent_at is not None:
                    told.add(delivery.destination)
                    teller.done(f"  {delivery.destination}: {delivery.detail}", (delivery.sent_at - before).total_seconds())
        if state not in told:
            told.add(state)
            teller.done(words, max(0.0, (at - before).total_seconds()))
        before = at


def _reached(history: list[HistoryLine], state: CaseState) -> datetime | None:
    return next((line.at for line in reversed(history) if line.event == f"case.{state}"), None)
