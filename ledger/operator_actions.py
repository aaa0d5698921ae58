"""What an operator makes a case do: analyse what a rule turned away, deliver now, analyse again. Each method is one transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, Row, insert, select

from corewatch.destinations import NOTICES
from corewatch.identity import case_key, new_case_id
from corewatch.instance import Instance
from corewatch.messages import Work
from corewatch.reasons import Reason
from corewatch.states import WITHOUT_RESULT, CaseState, DeliveryState, Stage
from ledger.audit_trail import record
from ledger.cases import Cases
from ledger.database import Database
from ledger.delivery_states import is_delivery, move_deliveries
from ledger.outbox import post
from ledger.single_file_cases import give_up_key
from ledger.tables import audit, cases, deliveries, instances

OVERRIDE_EVENT = "operator.included"
"""Audit event: an operator had a series analysed that a rule turns away."""

_QUEUED_EVENT = "case.queued"
_REANALYSABLE = frozenset({CaseState.DELIVERING, CaseState.DELIVERED, CaseState.FAILED})


@dataclass(frozen=True, slots=True)
class HeldBy:
    """The case that has the images already."""

    case_id: str


class OperatorActions:
    """Actions on cases that the pipeline does not take by itself. Who acted is recorded with each."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cases = Cases(database)

    def was_queued(self, case_id: str) -> bool:
        """Whether the case has been selected for analysis; if not, it ended while it was received or by a rule."""
        with self._database.reading() as connection:
            query = select(audit.c.id).where(audit.c.case_id == case_id, audit.c.event == _QUEUED_EVENT).limit(1)
            return connection.scalar(query) is not None

    def override_of(self, case_id: str) -> Reason | None:
        """The reason that an operator overrode when he had the case analysed; None where nobody did."""
        with self._database.reading() as connection:
            query = select(audit.c.detail).where(audit.c.case_id == case_id, audit.c.event == OVERRIDE_EVENT)
            detail = connection.scalars(query.order_by(audit.c.id.desc()).limit(1)).first()
        return None if detail is None else Reason(detail["reason"])

    def instances_of(self, case_id: str) -> tuple[Instance, ...]:
        """Header index of each instance of the case's revision and of earlier ones."""
        with self._database.reading() as connection:
            return tuple(Instance.from_json(row.header) for row in self._instances(connection, case_id))

    def queue(self, case_id: str, model: str | None, *, by: str, although: Reason | None = None) -> HeldBy | None:
        """Queue a case that ended before it was selected.

        Parameters
        ----------
        model
            Model that the rules choose; None: the default.
        by
            The operator.
        although
            The reason for which a rule turns the series away; it is recorded, and stated in the result.

        Returns
        -------
        The case that the same images belong to already; None when it was queued.

        Raises
        ------
        LookupError
            The case is in work or has a result.
        """
        with self._database.transaction() as connection:
            case = connection.execute(select(cases).where(cases.c.case_id == case_id)).one()
            if CaseState(case.state) not in WITHOUT_RESULT:
                raise LookupError(f"case {case_id} is {case.state}")
            key = case_key(case.series_uid, (row.sop_instance_uid for row in self._instances(connection, case_id)))
            holder = connection.execute(
                select(cases.c.case_id, cases.c.state).where(cases.c.case_key == key, cases.c.case_id != case_id)
            ).one_or_none()
            if holder is not None and CaseState(holder.state) not in WITHOUT_RESULT:
                return HeldBy(holder.case_id)
            now = self._database.clock()
            if holder is not None:
                give_up_key(connection, now, holder.case_id, to=case_id)
            if although is not None:
                record(connection, now, OVERRIDE_EVENT, case_id, by=by, reason=str(although))
            record(connection, now, "operator.retried", case_id, by=by, stage=str(Stage.PREPARE))
            self._cases.advance_in(
                connection,
                case_id,
                CaseState(case.state),
                CaseState.QUEUED,
                work=[Work(Stage.PREPARE, case_id)],
                case_key=key,
                model=model,
                reason=None,
                detail="",
                failed_stage=None,
            )
            return None

    def deliver(self, case_id: str, *, by: str, destinations: Collection[str] | None = None) -> list[str]:
        """Attempt the deliveries that are open or refused now, whatever they wait for.

        Parameters
        ----------
        destinations
            Only these; None: all.

        Returns
        -------
        Names of the deliveries that are due now; not those that are sent, skipped, being sent, or awaited from a PACS.
        """
        now = self._database.clock()
        due: list[str] = []
        with self._database.transaction() as connection:
            case = connection.execute(
                select(cases.c.state, cases.c.failed_stage).where(cases.c.case_id == case_id).with_for_update()
            ).one()
            rows = connection.execute(
                select(deliveries.c.destination, deliveries.c.state).where(deliveries.c.case_id == case_id)
            ).all()
            for row in rows:
                if destinations is not None and row.destination not in destinations:
                    continue
                before = DeliveryState(row.state)
                if before not in {DeliveryState.PENDING, DeliveryState.REFUSED}:
                    continue
                columns = {"attempts": 0} if before is DeliveryState.REFUSED else {}
                if move_deliveries(
                    connection,
                    is_delivery(case_id, row.destination),
                    {before},
                    DeliveryState.PENDING,
                    next_attempt_at=None,
                    lease_until=now + self._database.queue_lease,
                    **columns,
                ):
                    post(connection, now, Work(Stage.DELIVER, case_id, row.destination))
                    due.append(row.destination)
            if due:
                record(connection, now, "operator.delivered", case_id, by=by, destinations=due)
            if CaseState(case.state) is CaseState.FAILED and case.failed_stage == Stage.DELIVER and set(due) - NOTICES:
                self._cases.advance_in(
                    connection, case_id, CaseState.FAILED, CaseState.DELIVERING, reason=None, detail="", failed_stage=None
                )
        return due

    def reanalyse(self, case_id: str, *, by: str, model: str | None = None) -> str:
        """Open the next revision of a case with the same images; it supersedes the earlier one when it has its result.

        Parameters
        ----------
        model
            Model of the new revision; None: that of the earlier one.

        Returns
        -------
        Id of the new case.

        Raises
        ------
        LookupError
            The case has no result yet, or a later revision of it is in work or has one.
        """
        now = self._database.clock()
        with self._database.transaction() as connection:
            case = connection.execute(select(cases).where(cases.c.case_id == case_id)).one()
            newest = connection.execute(
                select(cases.c.case_id, cases.c.revision)
                .where(cases.c.series_uid == case.series_uid)
                .order_by(cases.c.revision.desc())
                .limit(1)
            ).one()
            if CaseState(case.state) not in _REANALYSABLE or newest.case_id != case_id:
                raise LookupError(newest.case_id)
            new_id, revision = new_case_id(), case.revision + 1
            connection.execute(insert(cases).values(**_next_revision(case), case_id=new_id, updated_at=now))
            record(connection, now, "case.receiving", new_id, revision=revision)
            record(connection, now, "operator.reanalysed", case_id, by=by, new_case=new_id, model=model or case.model)
            # the same images as another case: the result objects of this revision get UIDs of their own
            key = hashlib.sha256(f"{case.case_key}\nrevision {revision}".encode()).hexdigest()
            self._cases.advance_in(
                connection,
                new_id,
                CaseState.RECEIVING,
                CaseState.QUEUED,
                work=[Work(Stage.PREPARE, new_id)],
                case_key=key,
                model=model or case.model,
            )
            return new_id

    @staticmethod
    def _instances(connection: Connection, case_id: str) -> list[Row[tuple[str, dict[str, object]]]]:
        mine = connection.execute(select(cases.c.series_uid, cases.c.revision).where(cases.c.case_id == case_id)).one()
        return list(
            connection.execute(
                select(instances.c.sop_instance_uid, instances.c.header)
                .where(instances.c.series_uid == mine.series_uid, instances.c.first_revision <= mine.revision)
                .order_by(instances.c.sop_instance_uid)
            )
        )


def _next_revision(case: Row[object]) -> dict[str, object]:
    """Columns that the next revision has from the earlier one."""
    same = ("study_uid", "series_uid", "email", "created_at", "last_stored_at")
    fresh = {"state": CaseState.RECEIVING, "attempts": 0, "files_removed": False, "detail": ""}
    return {**{name: getattr(case, name) for name in same}, **fresh, "revision": case.revision + 1}
