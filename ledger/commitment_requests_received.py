"""Storage commitment requests received: kept until the peer has our report, or could not be reached for too long."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, insert, select, update

from corewatch.storage_commitment import InstanceReference
from ledger.audit_trail import record
from ledger.database import Database
from ledger.tables import commitment_requests_received, instances

_CHUNK = 500
"""UIDs of one query; databases limit the number of parameters."""


@dataclass(frozen=True, slots=True)
class ReceivedCommitmentRequest:
    """One transaction of a peer."""

    id: str
    transaction_uid: str
    peer_ae_title: str
    peer_host: str
    references: tuple[InstanceReference, ...]
    asked_at: datetime
    attempts: int


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """An instance that was stored: its SOP class, and its path relative to the received folder."""

    sop_class_uid: str
    path: str


class CommitmentRequestsReceived:
    """Requests and whether they are answered. Each method is one transaction of the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        transaction_uid: str,
        peer_ae_title: str,
        peer_host: str,
        references: tuple[InstanceReference, ...],
        asked_at: datetime,
    ) -> bool:
        """Record a request; False if it is open already. A repeat of a request that was answered is answered again."""
        now = self._database.clock()
        key = hashlib.sha256(f"{peer_ae_title}\n{transaction_uid}".encode()).hexdigest()
        mine = commitment_requests_received.c.id == key
        values = {
            "peer_host": peer_host,
            "instances": [[r.sop_class_uid, r.sop_instance_uid] for r in references],
            "asked_at": asked_at,
            "attempts": 0,
            "next_attempt_at": now,
            "ended_at": None,
            "detail": "",
        }
        with self._database.transaction() as connection:
            known = connection.execute(select(commitment_requests_received.c.ended_at).where(mine)).one_or_none()
            if known is None:
                names = {"id": key, "transaction_uid": transaction_uid, "peer_ae_title": peer_ae_title}
                connection.execute(insert(commitment_requests_received).values(**names, **values))
            elif known.ended_at is not None:
                connection.execute(update(commitment_requests_received).where(mine).values(**values))
            else:
                return False
            record(connection, now, "commitment.owed", peer=peer_ae_title, objects=len(references))
            return True

    def due(self, now: datetime, limit: int = 20) -> list[ReceivedCommitmentRequest]:
        """Requests whose report is due, oldest first."""
        owed = commitment_requests_received.c
        with self._database.reading() as connection:
            rows = connection.execute(
                select(commitment_requests_received).where(owed.next_attempt_at <= now).order_by(owed.next_attempt_at).limit(limit)
            )
            return [_owed(row) for row in rows]

    def postpone(self, owed: ReceivedCommitmentRequest, until: datetime, why: str, *, counts: bool = True) -> None:
        """Try again at `until`."""
        with self._database.transaction() as connection:
            connection.execute(
                update(commitment_requests_received)
                .where(commitment_requests_received.c.id == owed.id)
                .values(attempts=owed.attempts + counts, next_attempt_at=until, detail=why)
            )

    def end(self, owed: ReceivedCommitmentRequest, event: str, detail: str) -> None:
        """Close a request as `answered` or `given_up`."""
        now = self._database.clock()
        with self._database.transaction() as connection:
            connection.execute(
                update(commitment_requests_received)
                .where(commitment_requests_received.c.id == owed.id)
                .values(next_attempt_at=None, ended_at=now, detail=detail)
            )
            record(connection, now, f"commitment.{event}", peer=owed.peer_ae_title, detail=detail)

    def purge(self, before: datetime) -> int:
        """Remove requests that were closed before this moment; returns how many. A repeat is then a new request."""
        with self._database.transaction() as connection:
            return connection.execute(
                delete(commitment_requests_received).where(commitment_requests_received.c.ended_at < before)
            ).rowcount

    def stored_instances(self, sop_instance_uids: list[str]) -> dict[str, StoredInstance]:
        """Those of the instances that were stored and are known."""
        found: dict[str, StoredInstance] = {}
        with self._database.reading() as connection:
            for start in range(0, len(sop_instance_uids), _CHUNK):
                some = sop_instance_uids[start : start + _CHUNK]
                rows = connection.execute(
                    select(instances.c.sop_instance_uid, instances.c.path, instances.c.header).where(
                        instances.c.sop_instance_uid.in_(some)
                    )
                )
                found |= {row.sop_instance_uid: StoredInstance(str(row.header.get("sop_class_uid", "")), row.path) for row in rows}
        return found


def _owed(row: Row[Any]) -> ReceivedCommitmentRequest:
    return ReceivedCommitmentRequest(
        row.id,
        row.transaction_uid,
        row.peer_ae_title,
        row.peer_host,
        tuple(InstanceReference(sop_class, uid) for sop_class, uid in row.instances),
        row.asked_at,
        row.attempts,
    )
