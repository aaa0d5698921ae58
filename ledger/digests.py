"""Mail digests: which mails are sent alone, which wait, and which deliveries are part of which digest."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, not_, or_, select

from corewatch.identity import new_case_id
from corewatch.mail_receipts import MailReceiptState
from corewatch.mail_throttle import HOUR, MailLimits, SendMode, SentMail, ThrottleDecision, throttle
from corewatch.messages import Work
from corewatch.states import DeliveryState, Stage
from ledger.audit_trail import record
from ledger.database import Database
from ledger.delivery_states import move_deliveries
from ledger.outbox import post
from ledger.tables import cases, deliveries, mail_places, mail_receipts

_D = DeliveryState

MOST_CASES: Final = 500
"""Cases in one digest; more make another one later."""

_LOCK: Final = 0x6D61696C
"""Number of the advisory lock that makes the workers decide one after the other in PostgreSQL; SQLite has one writer anyway."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with a claimed delivery; for a digest its name."""

    verdict: ThrottleDecision
    digest: str | None = None


class Digests:
    """Used by the workers. Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def decide(
        self, case_id: str, destination: str, limits: MailLimits, *, alerts_apart: bool, lease_s: float, holder: str | None = None
    ) -> Decision:
        """Decide about a delivery that is claimed and not urgent; for a digest, claim what else waits.

        Parameters
        ----------
        alerts_apart
            Recent alerts of this destination go out alone and have no part in this.
        """
        now = self._database.clock()
        with self._database.transaction() as connection:
            if not self._database.is_sqlite:
                connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
            places = connection.execute(
                select(mail_places.c.about, mail_places.c.at, mail_places.c.digest).where(
                    mail_places.c.destination == destination, mail_places.c.at > now - max(HOUR, limits.digest_every)
                )
            ).all()
            if any(row.about == case_id and not row.digest for row in places):
                return Decision(ThrottleDecision(SendMode.ALONE))  # it has its place from an attempt that failed
            waiting = _waiting(destination, now - limits.alert_alone_for if alerts_apart else None)
            others = connection.scalars(
                select(deliveries.c.case_id)
                .join(cases, cases.c.case_id == deliveries.c.case_id)
                .where(waiting, deliveries.c.case_id != case_id)
                .order_by(deliveries.c.planned_at)
                .limit(MOST_CASES - 1)
                .with_for_update(of=deliveries)  # another worker may be claiming one of them (PostgreSQL)
            ).all()
            verdict = throttle(1 + len(others), [SentMail(row.at, row.digest) for row in places], limits, now)
            if verdict.mode is SendMode.WAIT:
                return Decision(verdict)
            digest = new_case_id() if verdict.mode is SendMode.DIGEST else None
            connection.execute(delete(mail_places).where(mail_places.c.at < now - 24 * HOUR))
            connection.execute(
                insert(mail_places).values(destination=destination, about=digest or case_id, digest=digest is not None, at=now)
            )
            if digest is not None:
                _claim(connection, [case_id, *others], destination, digest, now + timedelta(seconds=lease_s), holder)
                record(connection, now, "digest.begun", digest=digest, destination=destination, cases=1 + len(others))
            return Decision(verdict, digest)

    def resume(self, digest: str, case_id: str, destination: str, *, lease_s: float, holder: str | None = None) -> None:
        """Claim what is still open of a digest whose worker vanished, or that failed with some mails perhaps out.

        `case_id` was claimed by the caller.
        """
        now = self._database.clock()
        with self._database.transaction() as connection:
            still_open = deliveries.c.state.in_([str(_D.PENDING), str(_D.SENDING)])
            ours = connection.scalars(
                select(deliveries.c.case_id).where(
                    deliveries.c.digest == digest, deliveries.c.destination == destination, still_open
                )
            ).all()
            _claim(connection, list(ours), destination, digest, now + timedelta(seconds=lease_s), holder)
            record(connection, now, "digest.resumed", digest=digest, destination=destination, cases=len(ours), case=case_id)

    def members(self, digest: str, destination: str) -> list[str]:
        """Ids of the cases whose deliveries are claimed for a digest, in the order in which they were planned."""
        with self._database.reading() as connection:
            return list(
                connection.scalars(
                    select(deliveries.c.case_id)
                    .where(deliveries.c.digest == digest, deliveries.c.destination == destination, deliveries.c.state == _D.SENDING)
                    .order_by(deliveries.c.planned_at, deliveries.c.case_id)
                )
            )

    def release(self, digest: str, case_id: str, destination: str, *, why: str, not_before: datetime, counts: bool) -> None:
        """Release the open deliveries of a digest after a failed attempt; one message starts it again.

        A digest none of whose mails was sent is dissolved: the next one also includes what waits by then. Otherwise it stays as it
        is, so that a copy has the same content and the same Message-ID.

        Parameters
        ----------
        case_id
            The case whose message that is, if its delivery is still open.
        """
        now = self._database.clock()
        out = [str(MailReceiptState.SENDING), str(MailReceiptState.ACCEPTED), str(MailReceiptState.UNKNOWN)]
        with self._database.transaction() as connection:
            kept = connection.scalar(
                select(func.count())
                .select_from(mail_receipts)
                .where(mail_receipts.c.about == digest, mail_receipts.c.state.in_(out))
            )
            mine = and_(deliveries.c.digest == digest, deliveries.c.destination == destination, deliveries.c.state == _D.SENDING)
            still_open = connection.scalars(select(deliveries.c.case_id).where(mine).order_by(deliveries.c.planned_at)).all()
            move_deliveries(
                connection,
                mine,
                {_D.SENDING},
                _D.PENDING,
                attempts=deliveries.c.attempts - (0 if counts else 1),
                detail=why,
                holder=None,
                digest=digest if kept else None,
                next_attempt_at=not_before,
                lease_until=not_before + self._database.queue_lease,
            )
            if not kept:  # nobody has received it: its place is free again
                connection.execute(delete(mail_places).where(mail_places.c.about == digest))
            record(connection, now, "digest.failed", digest=digest, destination=destination, why=why)
            if still_open:
                leader = case_id if case_id in still_open else still_open[0]
                post(connection, now, Work(Stage.DELIVER, leader, destination), not_before)

    def urgent(self, destination: str, limits: MailLimits, most: int) -> list[str]:
        """Ids of cases whose recent alerts wait for this destination, the latest first."""
        now = self._database.clock()
        with self._database.reading() as connection:
            return list(
                connection.scalars(
                    select(deliveries.c.case_id)
                    .join(cases, cases.c.case_id == deliveries.c.case_id)
                    .where(
                        deliveries.c.destination == destination,
                        deliveries.c.state == _D.PENDING,
                        _recent_alert(now - limits.alert_alone_for),
                    )
                    .order_by(cases.c.last_stored_at.desc())
                    .limit(most)
                )
            )


def _recent_alert(since: datetime) -> ColumnElement[bool]:
    return and_(cases.c.alert.is_(True), cases.c.last_stored_at > since)


def _waiting(destination: str, alerts_since: datetime | None) -> ColumnElement[bool]:
    """Deliveries that wait and are in no digest that has begun to go out."""
    rows = and_(deliveries.c.destination == destination, deliveries.c.state == _D.PENDING, deliveries.c.digest.is_(None))
    if alerts_since is None:
        return rows
    return and_(rows, or_(cases.c.alert.is_(None), not_(_recent_alert(alerts_since))))


def _claim(
    connection: Connection, members: list[str], destination: str, digest: str, lease_until: datetime, holder: str | None
) -> None:
    mine = and_(deliveries.c.case_id.in_(members), deliveries.c.destination == destination)
    columns = {"digest": digest, "lease_until": lease_until, "next_attempt_at": None, "holder": holder}
    move_deliveries(connection, mine, {_D.SENDING}, _D.SENDING, **columns)
    move_deliveries(connection, mine, {_D.PENDING}, _D.SENDING, attempts=deliveries.c.attempts + 1, **columns)
