"""Positive findings that somebody must acknowledge, and the escalation of those that nobody has.

The alert's row is the lock: an acknowledgement, the start of an escalation, and the last check before its mail is sent each lock
it, so that each sees what the others have committed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import Connection, Row, func, insert, select, update

from corewatch.destinations import escalation
from corewatch.messages import Work
from corewatch.states import CaseState, DeliveryState, Stage
from ledger.audit_trail import record
from ledger.database import Database
from ledger.delivery_states import insert_delivery
from ledger.outbox import post
from ledger.tables import alerts, cases, escalations


class EscalationState(StrEnum):
    """Where one level is."""

    WAITING = "waiting"
    POSTED = "posted"
    """It was due, and is a delivery now."""
    CANCELLED = "cancelled"
    """The alert was acknowledged, or a later revision took the case's place."""


@dataclass(frozen=True, slots=True)
class Alert:
    """A positive finding, and who has acknowledged it."""

    case_id: str
    raised_at: datetime
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    acknowledged_as: str | None


@dataclass(frozen=True, slots=True)
class EscalationLevel:
    """One level of an alert's escalation."""

    level: int
    due_at: datetime
    state: EscalationState


class Alerts:
    """Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, case_id: str) -> Alert | None:
        """The case's alert; None where it has none."""
        with self._database.reading() as connection:
            row = connection.execute(select(alerts).where(alerts.c.case_id == case_id)).one_or_none()
        return None if row is None else Alert(**row._asdict())

    def levels(self, case_id: str) -> list[EscalationLevel]:
        """Its escalation."""
        with self._database.reading() as connection:
            rows = connection.execute(select(escalations).where(escalations.c.case_id == case_id).order_by(escalations.c.level))
            return [EscalationLevel(row.level, row.due_at, EscalationState(row.state)) for row in rows]

    def acknowledge(self, case_id: str, by: str, recipients: str) -> Alert | None:
        """Somebody has seen the alert; nothing is escalated any more.

        Parameters
        ----------
        by
            The person's name, as given.
        recipients
            Name of the list whose link was used.

        Returns
        -------
        The alert, with who was first; None where the case has none.
        """
        now = self._database.clock()
        with self._database.transaction() as connection:
            row = _locked(connection, case_id)
            if row is None:
                return None
            record(connection, now, "alert.acknowledged", case_id, by=by, recipients=recipients, first=row.acknowledged_at is None)
            if row.acknowledged_at is None:
                values = {"acknowledged_at": now, "acknowledged_by": by, "acknowledged_as": recipients}
                connection.execute(update(alerts).where(alerts.c.case_id == case_id).values(values))
                _cancel(connection, now, case_id, "acknowledged")
            return Alert(**connection.execute(select(alerts).where(alerts.c.case_id == case_id)).one()._asdict())

    def fire(self, now: datetime) -> list[tuple[str, int]]:
        """Make deliveries of the levels whose time has come; returns (case id, level)."""
        with self._database.reading() as connection:
            due = connection.execute(
                select(escalations.c.case_id, escalations.c.level)
                .where(escalations.c.state == EscalationState.WAITING, escalations.c.due_at <= now)
                .order_by(escalations.c.due_at, escalations.c.level)
            ).all()
        return [(row.case_id, row.level) for row in due if self._fire_one(row.case_id, row.level)]

    def next_due(self) -> datetime | None:
        """When the next level is due; None where none waits."""
        with self._database.reading() as connection:
            return connection.scalar(
                select(escalations.c.due_at)
                .where(escalations.c.state == EscalationState.WAITING)
                .order_by(escalations.c.due_at)
                .limit(1)
            )

    def _fire_one(self, case_id: str, level: int) -> bool:
        now = self._database.clock()
        with self._database.transaction() as connection:
            alert = _locked(connection, case_id)
            state = connection.scalar(select(cases.c.state).where(cases.c.case_id == case_id))
            if alert is None or alert.acknowledged_at is not None or state == CaseState.SUPERSEDED:
                _cancel(connection, now, case_id, "superseded" if state == CaseState.SUPERSEDED else "acknowledged")
                return False
            return _post_level(connection, now, self._database.queue_lease, case_id, level)


def _post_level(connection: Connection, now: datetime, queue_lease: timedelta, case_id: str, level: int, **detail: str) -> bool:
    """Make a delivery of a level that waits; the alert's row is locked."""
    mine = (escalations.c.case_id == case_id) & (escalations.c.level == level)
    waiting = escalations.c.state == EscalationState.WAITING
    posted = {"state": EscalationState.POSTED, "ended_at": now}
    if not connection.execute(update(escalations).where(mine, waiting).values(posted)).rowcount:
        return False
    name = escalation(level)
    insert_delivery(connection, case_id, name, DeliveryState.PENDING, planned_at=now, lease_until=now + queue_lease)
    record(connection, now, "alert.escalated", case_id, level=level, **detail)
    post(connection, now, Work(Stage.DELIVER, case_id, name))
    return True


def escalate_now(connection: Connection, now: datetime, queue_lease: timedelta, case_id: str, why: str) -> bool:
    """Start the next level of an alert at once, since those before it could not be mailed; whether there was one."""
    alert = _locked(connection, case_id)
    if alert is None or alert.acknowledged_at is not None:
        return False
    waiting = (escalations.c.case_id == case_id) & (escalations.c.state == EscalationState.WAITING)
    level = connection.scalar(select(func.min(escalations.c.level)).where(waiting))
    return level is not None and _post_level(connection, now, queue_lease, case_id, level, why=why)


def raise_alert(connection: Connection, now: datetime, case_id: str, levels: Sequence[timedelta]) -> None:
    """Note an alert and when each level is due; once, however often the case is planned."""
    if connection.scalar(select(func.count()).select_from(alerts).where(alerts.c.case_id == case_id)):
        return
    connection.execute(insert(alerts).values(case_id=case_id, raised_at=now))
    for level, wait in enumerate(levels, start=1):
        connection.execute(
            insert(escalations).values(case_id=case_id, level=level, due_at=now + wait, state=EscalationState.WAITING)
        )
    record(connection, now, "alert.raised", case_id, levels=len(levels))


def withdrawal_reason(connection: Connection, case_id: str) -> str | None:
    """Why an escalation must not go out any more, in the transaction that would let it go."""
    row = _locked(connection, case_id)
    return "the alert was acknowledged meanwhile" if row is not None and row.acknowledged_at is not None else None


def _locked(connection: Connection, case_id: str) -> Row[tuple[object, ...]] | None:
    return connection.execute(select(alerts).where(alerts.c.case_id == case_id).with_for_update()).one_or_none()


def _cancel(connection: Connection, now: datetime, case_id: str, why: str) -> None:
    waiting = (escalations.c.case_id == case_id) & (escalations.c.state == EscalationState.WAITING)
    values = {"state": EscalationState.CANCELLED, "ended_at": now}
    if connection.execute(update(escalations).where(waiting).values(values)).rowcount:
        record(connection, now, "alert.escalation_cancelled", case_id, why=why)
