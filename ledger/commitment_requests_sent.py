"""Storage commitment requests sent to a PACS: each transaction, its report, and the delivery that waits for it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from corewatch.messages import Work
from corewatch.states import DeliveryState, Stage
from corewatch.storage_commitment import CommitmentReport, CommitmentRequest
from ledger.audit_trail import record
from ledger.database import Database
from ledger.delivery_states import is_delivery, move_deliveries
from ledger.outbox import post
from ledger.stored_objects import forget
from ledger.tables import commitment_requests_sent, deliveries

_D = DeliveryState


class CommitmentRequestsSent:
    """Reading and moving transactions. Each method is one transaction of the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, case_id: str, destination: str) -> list[CommitmentRequest]:
        """Transactions of a delivery since it was planned (or planned again by an operator's retry), oldest first."""
        asked = commitment_requests_sent.c
        with self._database.reading() as connection:
            planned_at = connection.scalar(select(deliveries.c.planned_at).where(is_delivery(case_id, destination)))
            rows = connection.execute(
                select(commitment_requests_sent)
                .where(asked.case_id == case_id, asked.destination == destination, asked.asked_at >= planned_at)
                .order_by(asked.asked_at, asked.transaction_uid)
            )
            return [_asked(row) for row in rows]

    def open(self, transaction_uid: str, case_id: str, destination: str, instances: Sequence[str], deadline: datetime) -> None:
        """Record a transaction before the request is sent: its report may arrive at once."""
        now = self._database.clock()
        with self._database.transaction() as connection:
            connection.execute(
                insert(commitment_requests_sent).values(
                    transaction_uid=transaction_uid,
                    case_id=case_id,
                    destination=destination,
                    instances=list(instances),
                    asked_at=now,
                    deadline=deadline,
                )
            )
            record(connection, now, "commitment.asked", case_id, destination=destination, objects=len(instances))

    def wait(self, transaction_uid: str, detail: str) -> bool:
        """Move the delivery from `sending` to `awaiting`; False if the report is here: the delivery is posted again."""
        now = self._database.clock()
        with self._database.transaction() as connection:
            row = connection.execute(_by_uid(transaction_uid)).one()
            moved = move_deliveries(
                connection,
                is_delivery(row.case_id, row.destination),
                {_D.SENDING},
                _D.AWAITING,
                attempts=deliveries.c.attempts - 1,  # it has not failed
                detail=detail,
                holder=None,
                lease_until=row.deadline,
            )
            if not moved:
                return False
            record(connection, now, "delivery.awaiting", row.case_id, destination=row.destination, detail=detail)
            if row.reported_at is not None:
                self._wake(connection, row.case_id, row.destination, now)
            return row.reported_at is None

    def report(self, report: CommitmentReport) -> bool:
        """Record a report and post its delivery again; False for an unknown transaction, and for one that has its report."""
        now = self._database.clock()
        with self._database.transaction() as connection:
            moved = connection.execute(
                update(commitment_requests_sent)
                .where(
                    commitment_requests_sent.c.transaction_uid == report.transaction_uid,
                    commitment_requests_sent.c.reported_at.is_(None),
                )
                .values(
                    reported_at=now,
                    committed=[r.sop_instance_uid for r in report.committed],
                    failed=[[f.reference.sop_instance_uid, f.reason] for f in report.failed],
                )
            ).rowcount
            if not moved:
                return False
            row = connection.execute(_by_uid(report.transaction_uid)).one()
            kept = {reference.sop_instance_uid for reference in report.committed}
            forget(connection, row.case_id, row.destination, [uid for uid in row.instances if uid not in kept])
            record(
                connection,
                now,
                "commitment.reported",
                row.case_id,
                destination=row.destination,
                committed=len(report.committed),
                failed=len(report.failed),
            )
            self._wake(connection, row.case_id, row.destination, now)
            return True

    def expire(self, now: datetime) -> int:
        """Post the deliveries again whose report did not arrive in time; returns how many."""
        with self._database.reading() as connection:
            late = connection.execute(
                select(deliveries.c.case_id, deliveries.c.destination).where(
                    deliveries.c.state == _D.AWAITING, deliveries.c.lease_until <= now
                )
            ).all()
        for row in late:
            with self._database.transaction() as connection:
                self._wake(connection, row.case_id, row.destination, now)
        return len(late)

    def _wake(self, connection: Connection, case_id: str, destination: str, now: datetime) -> None:
        lease_until = now + self._database.queue_lease
        if move_deliveries(connection, is_delivery(case_id, destination), {_D.AWAITING}, _D.PENDING, lease_until=lease_until):
            post(connection, now, Work(Stage.DELIVER, case_id, destination))


def _by_uid(transaction_uid: str) -> Any:
    return select(commitment_requests_sent).where(commitment_requests_sent.c.transaction_uid == transaction_uid)


def _asked(row: Row[Any]) -> CommitmentRequest:
    return CommitmentRequest(
        transaction_uid=row.transaction_uid,
        instances=tuple(row.instances),
        deadline=row.deadline,
        committed=None if row.reported_at is None else frozenset(row.committed),
        failed=tuple((uid, reason) for uid, reason in row.failed or ()),
    )
