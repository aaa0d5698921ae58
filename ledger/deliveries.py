"""Deliveries: the state of each destination of a case, claimed, retried and ended independently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, or_, select

from corewatch.destinations import OPERATORS, alerts_people, is_only_notice, refusal_notice
from corewatch.messages import Work
from corewatch.states import DELIVERY_ENDS, CaseState, DeliveryState, Stage
from ledger.alerts import escalate_now, raise_alert
from ledger.audit_trail import record
from ledger.cases import Cases
from ledger.database import Database
from ledger.delivery_states import insert_delivery, is_delivery, move_deliveries
from ledger.mail_receipts import has_been_accepted
from ledger.outbox import post
from ledger.stored_objects import forget
from ledger.tables import cases, deliveries

_D = DeliveryState

_REPORTED_BY: Final = frozenset({OPERATORS})
"""Notices of a failed case that say no more than those of its refusals."""

_WITH_WORKERS = frozenset({_D.PENDING, _D.SENDING})
"""States that end by a worker's attempt; a delivery that stays in one of them for too long is posted again."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One destination of one case.

    `attempts` counts attempts that failed in corewatch or ended with their worker, not those that the destination deferred.
    """

    case_id: str
    destination: str
    state: DeliveryState
    planned_at: datetime
    attempts: int
    lease_until: datetime | None
    next_attempt_at: datetime | None
    detail: str
    sent_at: datetime | None
    holder: str | None
    digest: str | None


class Deliveries:
    """Reading and moving deliveries. Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cases = Cases(database)

    def of(self, case_id: str) -> list[Delivery]:
        """All deliveries of a case, by name."""
        with self._database.reading() as connection:
            rows = connection.execute(select(deliveries).where(deliveries.c.case_id == case_id).order_by(deliveries.c.destination))
            return [delivery_of(row) for row in rows]

    def plan(
        self,
        case_id: str,
        before: CaseState,
        after: CaseState,
        destinations: Mapping[str, str | None],
        *,
        escalation: Sequence[timedelta] | None = None,
        wait: timedelta = timedelta(0),
        **facts: Any,
    ) -> bool:
        """Move the case (see `Cases.advance`) and post one delivery per destination, in one transaction.

        Parameters
        ----------
        destinations
            Name of each destination -> None, or the reason why it does not apply to this case (it is then `skipped`).
            A destination that has a row already keeps it when it was sent or is being sent, and starts again when it was refused.
        escalation
            For an alert: when each level of its escalation is due, from now; None: no alert.
        wait
            Time before the deliveries are attempted, unless they are planned again sooner.
        """
        with self._database.transaction() as connection:
            if not self._cases.advance_in(connection, case_id, before, after, **facts):
                return False
            self._post_new(connection, case_id, destinations, wait)
            if escalation is not None:
                raise_alert(connection, self._database.clock(), case_id, escalation)
            if after is CaseState.DELIVERING:
                self._end_case(connection, case_id, ())  # there may be no destination that applies
            return True

    def _post_new(
        self, connection: Connection, case_id: str, destinations: Mapping[str, str | None], wait: timedelta = timedelta(0)
    ) -> None:  # fmt: skip
        now = self._database.clock()
        rows = connection.execute(select(deliveries).where(deliveries.c.case_id == case_id))
        known = {row.destination: _D(row.state) for row in rows}
        for name, skip in destinations.items():
            if known.get(name) not in {None, _D.PENDING, _D.REFUSED}:
                continue  # it has its end, or a worker or the destination has it
            state, detail = (_D.PENDING, "") if skip is None else (_D.SKIPPED, skip)
            waiting = now + wait + self._database.queue_lease
            if name in known:
                if known[name] is _D.REFUSED:
                    forget(connection, case_id, name)  # whatever an operator has changed there: every object is sent again
                # its digest is over: the recipients who know of the case by it are in the mail receipts
                columns = {"attempts": 0, "detail": detail, "planned_at": now, "lease_until": waiting, "digest": None}
                move_deliveries(connection, is_delivery(case_id, name), {known[name]}, state, **columns)
            else:
                insert_delivery(connection, case_id, name, state, planned_at=now, lease_until=waiting, detail=detail)
            if skip is None:
                post(connection, now, Work(Stage.DELIVER, case_id, name), now + wait)
            else:
                record(connection, now, "delivery.skipped", case_id, destination=name, why=skip)

    def begin(
        self, case_id: str, destination: str, *, lease_s: float, takeover: bool = False, holder: str | None = None
    ) -> Delivery | None:
        """Claim a delivery; counts an attempt. None: it has an end already, or another worker is at it.

        Parameters
        ----------
        holder
            Who sends (host and process), so that a worker that was killed is known as such.
        takeover
            Take it although another holder's lease runs on: the broker says that the other one is gone.
        """
        now = self._database.clock()
        with self._database.transaction() as connection:
            mine = is_delivery(case_id, destination)
            free = deliveries.c.state == _D.PENDING
            expired = or_(deliveries.c.lease_until.is_(None), deliveries.c.lease_until < now)
            moved = move_deliveries(
                connection,
                mine if takeover else mine & (free | expired),
                _WITH_WORKERS,
                _D.SENDING,
                attempts=deliveries.c.attempts + 1,
                lease_until=now + timedelta(seconds=lease_s),
                next_attempt_at=None,
                holder=holder,
            )
            if not moved:
                return None
            delivery = delivery_of(connection.execute(select(deliveries).where(mine)).one())
            record(connection, now, "delivery.begun", case_id, destination=destination, attempt=delivery.attempts)
            return delivery

    def end(
        self,
        case_id: str,
        destination: str,
        state: DeliveryState,
        *,
        detail: str,
        notices: Sequence[str] = (),
        reporters: Sequence[str] = (),
    ) -> bool:
        """The delivery is sent, skipped or refused; the case ends with the last of its deliveries.

        A refusal is reported at once, whatever the other deliveries do. Where the mail of an alert is refused and nobody has it,
        the next level of its escalation starts at once.

        Parameters
        ----------
        notices
            Destinations that get a notice, once each, when the case thereby ends `failed`.
        reporters
            What reports a refusal (`corewatch.destinations.refusal_notice`). With these, notices to the operators are left out at
            the end: they have each refusal.

        Returns
        -------
        Whether this was the delivery that ended the case.
        """
        now = self._database.clock()
        with self._database.transaction() as connection:
            columns = {"detail": detail, "lease_until": None, "holder": None, "sent_at": now if state is _D.SENT else None}
            if not move_deliveries(connection, is_delivery(case_id, destination), {_D.SENDING}, state, **columns):
                return False
            record(connection, now, f"delivery.{state}", case_id, destination=destination, detail=detail)
            if state is _D.REFUSED and not is_only_notice(destination):
                self._report_refusals(connection, case_id, reporters)
                if alerts_people(destination) and not has_been_accepted(connection, case_id, destination):
                    why = f"{destination} did not take the alert"
                    escalate_now(connection, now, self._database.queue_lease, case_id, why)
            return self._end_case(connection, case_id, notices, reporters)

    def _report_refusals(self, connection: Connection, case_id: str, reporters: Sequence[str]) -> None:
        """Post a notice about each refused delivery that has none yet."""
        refused = deliveries.c.state == _D.REFUSED
        names = connection.scalars(select(deliveries.c.destination).where(deliveries.c.case_id == case_id, refused)).all()
        about = [name for name in names if not is_only_notice(name)]
        known = set(connection.scalars(select(deliveries.c.destination).where(deliveries.c.case_id == case_id)))
        new = [notice for name in about for one in reporters if (notice := refusal_notice(one, name)) not in known]
        self._post_new(connection, case_id, dict.fromkeys(new))

    def _end_case(
        self, connection: Connection, case_id: str, notices: Sequence[str], reporters: Sequence[str] = ()
    ) -> bool:  # fmt: skip
        """End a case in `delivering` when none of its deliveries is open any more; returns whether it has thereby ended.

        An escalation follows that end: if it is refused, the case ends `failed` and the notices are posted. A notice that is still
        to be sent does not hold up the end.
        """
        # the lock on the case's row makes two deliveries that end at the same moment count each other
        case_state = connection.scalar(select(cases.c.state).where(cases.c.case_id == case_id).with_for_update())
        if case_state not in {CaseState.DELIVERING, CaseState.DELIVERED}:
            return False
        rows = connection.execute(select(deliveries.c.destination, deliveries.c.state).where(deliveries.c.case_id == case_id))
        by_name = {row.destination: _D(row.state) for row in rows if not is_only_notice(row.destination)}
        states = set(by_name.values())
        if states - DELIVERY_ENDS:
            return False
        before = CaseState(case_state)
        if _D.REFUSED not in states:
            return before is CaseState.DELIVERING and self._cases.advance_in(connection, case_id, before, CaseState.DELIVERED)
        refused = sorted(name for name, state in by_name.items() if state is _D.REFUSED)
        why = f"{', '.join(refused)} did not take the result; see its deliveries"
        self._cases.advance_in(connection, case_id, before, CaseState.FAILED, failed_stage=Stage.DELIVER, detail=why)
        self._report_refusals(connection, case_id, reporters)  # those of an earlier version have no notice
        self._post_new(connection, case_id, dict.fromkeys(n for n in notices if n not in _REPORTED_BY or not reporters))
        return True

    def release(
        self, case_id: str, destination: str, *, why: str, not_before: datetime, counts: bool, event: str = "delivery.failed"
    ) -> bool:
        """Give a delivery back after a failed attempt; it is posted again for `not_before`.

        Parameters
        ----------
        counts
            Whether the attempt counts; one that the destination deferred does not.
        event
            What it is called in the audit trail.
        """
        now = self._database.clock()
        with self._database.transaction() as connection:
            moved = move_deliveries(
                connection,
                is_delivery(case_id, destination),
                {_D.SENDING},
                _D.PENDING,
                attempts=deliveries.c.attempts - (0 if counts else 1),
                detail=why,
                holder=None,
                next_attempt_at=not_before,
                lease_until=not_before + self._database.queue_lease,
            )
            if moved:
                record(connection, now, event, case_id, destination=destination, why=why)
                post(connection, now, Work(Stage.DELIVER, case_id, destination), not_before)
            return bool(moved)

    def postpone(self, case_id: str, destination: str, not_before: datetime) -> bool:
        """Post a delivery that waits for a free process again for `not_before`; it was not attempted."""
        now = self._database.clock()
        with self._database.transaction() as connection:
            mine = is_delivery(case_id, destination)
            lease_until = not_before + self._database.queue_lease
            if not move_deliveries(connection, mine, {_D.PENDING}, _D.PENDING, next_attempt_at=not_before, lease_until=lease_until):
                return False
            post(connection, now, Work(Stage.DELIVER, case_id, destination), not_before)
            return True

    def held(self) -> list[Delivery]:
        """Deliveries that a worker has claimed."""
        with self._database.reading() as connection:
            rows = connection.execute(select(deliveries).where(deliveries.c.state == _D.SENDING, deliveries.c.holder.is_not(None)))
            return [delivery_of(row) for row in rows]

    def overdue(self, now: datetime) -> list[Delivery]:
        """Deliveries that no worker has claimed, or whose worker has vanished."""
        with self._database.reading() as connection:
            rows = connection.execute(
                select(deliveries).where(
                    deliveries.c.state.in_([str(state) for state in _WITH_WORKERS]),
                    or_(deliveries.c.lease_until.is_(None), deliveries.c.lease_until < now),
                )
            )
            return [delivery_of(row) for row in rows]

    def repost(self, delivery: Delivery) -> None:
        """Post the work of an overdue delivery again; one that a vanished worker was sending is free for the next.

        It is checked again after twice the time, so that a long outage causes no flood of messages.
        """
        now = self._database.clock()
        wait = max(self._database.queue_lease, now - delivery.planned_at)
        with self._database.transaction() as connection:
            overdue = or_(deliveries.c.lease_until.is_(None), deliveries.c.lease_until < now)
            mine = is_delivery(delivery.case_id, delivery.destination) & overdue
            before = _WITH_WORKERS & {delivery.state}
            if not move_deliveries(connection, mine, before, _D.PENDING, holder=None, lease_until=now + wait):
                return
            record(connection, now, "work.posted_again", delivery.case_id, stage="deliver", destination=delivery.destination)
            post(connection, now, Work(Stage.DELIVER, delivery.case_id, delivery.destination))


def delivery_of(row: Row[Any]) -> Delivery:
    """A delivery from its row."""
    values = row._asdict()
    values["state"] = _D(values["state"])
    return Delivery(**values)
