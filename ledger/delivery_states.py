"""The only way in which a delivery gets a state or changes it: along `corewatch.states.DELIVERY_TRANSITIONS`."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, insert, update

from corewatch.states import DeliveryState, check_delivery_start, check_delivery_transition
from ledger.tables import deliveries


def is_delivery(case_id: str, destination: str) -> ColumnElement[bool]:
    """Condition that selects one delivery."""
    return and_(deliveries.c.case_id == case_id, deliveries.c.destination == destination)


def insert_delivery(
    connection: Connection,
    case_id: str,
    destination: str,
    state: DeliveryState,
    *,
    planned_at: datetime,
    lease_until: datetime,
    detail: str = "",
) -> None:
    """Insert a delivery in its first state.

    Raises
    ------
    IllegalTransition
        No delivery starts in this state.
    """
    check_delivery_start(state)
    connection.execute(
        insert(deliveries).values(
            case_id=case_id,
            destination=destination,
            state=state,
            planned_at=planned_at,
            attempts=0,
            detail=detail,
            lease_until=lease_until,
        )
    )


def move_deliveries(
    connection: Connection, which: ColumnElement[bool], before: Collection[DeliveryState], after: DeliveryState, **columns: Any
) -> int:
    """Move those of the selected deliveries that are in one of the states `before`; returns how many.

    Parameters
    ----------
    columns
        Further columns to set with the state.

    Raises
    ------
    IllegalTransition
        The table lacks the way from one of `before` to `after`; nothing is moved.
    """
    for state in before:
        check_delivery_transition(state, after)
    states = deliveries.c.state.in_([str(state) for state in before])
    return connection.execute(update(deliveries).where(which, states).values(state=after, **columns)).rowcount
