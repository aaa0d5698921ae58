"""Clock shift: after the system's clock was set, leases and waits are moved by the same amount and keep their length."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, select, update

from corewatch.states import DELIVERY_ENDS, ENDS
from ledger.alerts import EscalationState
from ledger.audit_trail import record
from ledger.database import Database
from ledger.tables import (
    audit,
    cases,
    commitment_requests_received,
    commitment_requests_sent,
    deliveries,
    escalations,
    mail_places,
    outbox,
)

SLACK = timedelta(seconds=60)
"""Clocks of several hosts that share a database differ by less."""


class ClockShift:
    """Moves what waits. Used by the daemon alone."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def set_back_meanwhile(self, now: datetime) -> timedelta:
        """How far the clock was set back while the daemon did not run, going by the newest line of the audit trail; else zero."""
        with self._database.reading() as connection:
            newest = connection.scalar(select(audit.c.at).order_by(audit.c.id.desc()).limit(1))
        return timedelta(0) if newest is None or newest - now <= SLACK else now - newest

    def shift(self, jump: timedelta, now: datetime) -> None:
        """The clock was set by `jump` (positive: forward) and shows `now`: move every lease and wait that still ran by as much."""
        still_ran = min(now, now - jump)
        with self._database.transaction() as connection:
            self._shift_cases(connection, jump, still_ran)
            self._shift_deliveries(connection, jump, still_ran)
            self._shift_commitments(connection, jump, still_ran)
            waiting = connection.execute(
                select(outbox.c.id, outbox.c.not_before).where(outbox.c.published_at.is_(None), outbox.c.not_before > still_ran)
            ).all()
            for row in waiting:
                connection.execute(update(outbox).where(outbox.c.id == row.id).values(not_before=row.not_before + jump))
            for row in connection.execute(select(escalations).where(escalations.c.state == EscalationState.WAITING)).all():
                mine = (escalations.c.case_id == row.case_id) & (escalations.c.level == row.level)
                connection.execute(update(escalations).where(mine).values(due_at=row.due_at + jump))
            for row in connection.execute(select(mail_places.c.id, mail_places.c.at)).all():
                connection.execute(update(mail_places).where(mail_places.c.id == row.id).values(at=row.at + jump))
            record(connection, now, "clock.set", seconds=round(jump.total_seconds(), 1))

    def _shift_cases(self, connection: Connection, jump: timedelta, still_ran: datetime) -> None:
        rows = connection.execute(
            select(cases.c.case_id, cases.c.lease_until, cases.c.updated_at).where(
                cases.c.state.not_in([str(s) for s in ENDS]), cases.c.lease_until > still_ran
            )
        ).all()
        for row in rows:
            moved = {"lease_until": row.lease_until + jump, "updated_at": row.updated_at + jump}
            connection.execute(update(cases).where(cases.c.case_id == row.case_id).values(moved))

    def _shift_deliveries(self, connection: Connection, jump: timedelta, still_ran: datetime) -> None:
        columns = (deliveries.c.lease_until, deliveries.c.next_attempt_at, deliveries.c.planned_at)
        rows = connection.execute(
            select(deliveries.c.case_id, deliveries.c.destination, *columns).where(
                deliveries.c.state.not_in([str(s) for s in DELIVERY_ENDS]), deliveries.c.lease_until > still_ran
            )
        ).all()
        for row in rows:
            mine = (deliveries.c.case_id == row.case_id) & (deliveries.c.destination == row.destination)
            moved = {c.name: None if (at := getattr(row, c.name)) is None else at + jump for c in columns}
            connection.execute(update(deliveries).where(mine).values(moved))

    def _shift_commitments(self, connection: Connection, jump: timedelta, still_ran: datetime) -> None:
        asked, owed = commitment_requests_sent.c, commitment_requests_received.c
        for row in connection.execute(
            select(asked.transaction_uid, asked.asked_at, asked.deadline).where(
                asked.reported_at.is_(None), asked.deadline > still_ran
            )
        ).all():
            moved = {"asked_at": row.asked_at + jump, "deadline": row.deadline + jump}
            connection.execute(update(commitment_requests_sent).where(asked.transaction_uid == row.transaction_uid).values(moved))
        for row in connection.execute(
            select(owed.id, owed.asked_at, owed.next_attempt_at).where(owed.next_attempt_at > still_ran)
        ).all():
            moved = {"asked_at": row.asked_at + jump, "next_attempt_at": row.next_attempt_at + jump}
            connection.execute(update(commitment_requests_received).where(owed.id == row.id).values(moved))
