"""Cases that have not ended, and since when each waits in its state."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, func, select

from corewatch.destinations import EMAIL, OPERATORS
from corewatch.states import ENDS, CaseState, DeliveryState
from corewatch.waiting import WaitingCase
from ledger.database import Database
from ledger.tables import audit, cases, deliveries

_MAILS = (EMAIL, OPERATORS)
"""Destinations whose deliveries may be deferred on purpose, into a digest."""

_WITH_US = (str(DeliveryState.PENDING), str(DeliveryState.SENDING))


def waiting_cases(database: Database) -> list[WaitingCase]:
    """Every case that has not ended.

    A case in `delivering` counts while a delivery waits for us or for a destination that does not take it, not while only the
    confirmation of a PACS (storage commitment) or the next digest is due.
    """
    with database.reading() as connection:
        return list(_waiting(connection, database.clock()))


def _waiting(connection: Connection, now: datetime) -> Iterator[WaitingCase]:
    running = select(cases.c.case_id, cases.c.state, cases.c.created_at, cases.c.last_stored_at)
    rows = connection.execute(running.where(cases.c.state.not_in([str(s) for s in ENDS]))).all()
    delivering = {row.case_id: row for row in connection.execute(_unfinished_deliveries(now)).all()}
    for row in rows:
        state = CaseState(row.state)
        if state is CaseState.DELIVERING:
            slowest = delivering.get(row.case_id)
            if slowest is not None:
                yield WaitingCase(row.case_id, state, slowest.planned_at, slowest.destination)
        elif state is CaseState.RECEIVING:
            yield WaitingCase(row.case_id, state, row.last_stored_at)
        else:
            yield WaitingCase(row.case_id, state, _entered(connection, row, state))


def _unfinished_deliveries(now: datetime) -> Select[Any]:
    """Deliveries that wait for us or for their destination, newest first: in a dict, the oldest of each case remains."""
    deferred = deliveries.c.destination.in_(_MAILS) & (func.coalesce(deliveries.c.next_attempt_at, now) > now)
    return (
        select(deliveries.c.case_id, deliveries.c.destination, deliveries.c.planned_at)
        .where(deliveries.c.state.in_(_WITH_US), ~deferred)
        .order_by(deliveries.c.planned_at.desc(), deliveries.c.destination.desc())
    )


def _entered(connection: Connection, row: Any, state: CaseState) -> datetime:
    """When the case entered its state: retries of the stage change the row, and the audit trail alone knows it."""
    newest = select(func.max(audit.c.at)).where(audit.c.case_id == row.case_id, audit.c.event == f"case.{state}")
    at: datetime | None = connection.scalar(newest)
    return at or row.created_at
