"""The state of every case: claimed by stages, advanced along the transition table, retried within a cap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, or_, select, update

from corewatch.destinations import NOTICES, is_only_notice
from corewatch.instance import Instance
from corewatch.messages import Work
from corewatch.reasons import Reason
from corewatch.states import ENDS, STAGE_OF, WITHOUT_RESULT, CaseState, Stage, check_transition
from ledger.audit_trail import AuditLine, record
from ledger.database import Database, as_values
from ledger.outbox import post
from ledger.tables import audit, cases, deliveries, instances

STEPPED_BACK: Final = "case.stepped_back"
"""Event of a case that goes back to an earlier stage because files of its folder are damaged."""


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the ledger: a revision of a series, or an aligned head."""

    case_id: str
    case_key: str | None
    study_uid: str | None
    series_uid: str | None
    revision: int
    aligned_path: str | None
    state: CaseState
    reason: Reason | None
    detail: str
    failed_stage: Stage | None
    superseded_by: str | None
    model: str | None
    email: tuple[str, ...]
    attempts: int
    holder: str | None
    lease_until: datetime | None
    created_at: datetime
    last_stored_at: datetime
    updated_at: datetime
    core_ml: float | None
    side: str | None
    alert: bool | None
    cautions: tuple[str, ...] | None
    files_removed: bool
    core_ml_low: float | None = None
    core_ml_high: float | None = None
    unstable: bool | None = None
    scanner: str | None = None
    accession_hash: str | None = None
    patient_id_hash: str | None = None


class Cases:
    """Reading and moving cases. Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # reading ---------------------------------------------------------------------------------------------------------------------

    def get(self, case_id: str) -> Case | None:
        """The case, or None when the id is unknown."""
        with self._database.reading() as connection:
            row = connection.execute(select(cases).where(cases.c.case_id == case_id)).one_or_none()
        return None if row is None else case_of(row)

    def find(
        self,
        *,
        states: Sequence[CaseState] = (),
        series_uid: str | None = None,
        case_key: str | None = None,
        limit: int | None = None,
    ) -> list[Case]:
        """Cases that fit all conditions, newest first."""
        query = select(cases).order_by(cases.c.created_at.desc(), cases.c.case_id)
        if states:
            query = query.where(cases.c.state.in_([str(s) for s in states]))
        if series_uid is not None:
            query = query.where(cases.c.series_uid == series_uid)
        if case_key is not None:
            query = query.where(cases.c.case_key == case_key)
        if limit is not None:
            query = query.limit(limit)
        with self._database.reading() as connection:
            return [case_of(row) for row in connection.execute(query)]

    def instance_paths(self, case: Case) -> list[str]:
        """Paths of the case's instances relative to the received folder, in order of arrival."""
        with self._database.reading() as connection:
            return list(
                connection.scalars(
                    select(instances.c.path)
                    .where(instances.c.series_uid == case.series_uid, instances.c.first_revision <= case.revision)
                    .order_by(instances.c.stored_at, instances.c.path)
                )
            )

    def instance_files(self, case: Case) -> list[tuple[Instance, str]]:
        """Header index of each of the case's instances, and its path relative to the received folder."""
        mine = (instances.c.series_uid == case.series_uid, instances.c.first_revision <= case.revision)
        with self._database.reading() as connection:
            rows = connection.execute(select(instances.c.header, instances.c.path).where(*mine).order_by(instances.c.path))
            return [(Instance.from_json(row.header), row.path) for row in rows]

    def received_files(self, case: Case) -> list[tuple[str, str]]:
        """Path, relative to the received folder, and sha256 of each received file of the case."""
        if case.aligned_path is not None:
            return [] if case.case_key is None else [(case.aligned_path, case.case_key)]
        with self._database.reading() as connection:
            rows = connection.execute(
                select(instances.c.path, instances.c.sha256)
                .where(instances.c.series_uid == case.series_uid, instances.c.first_revision <= case.revision)
                .order_by(instances.c.path)
            )
            return [(row.path, row.sha256) for row in rows]

    def history(self, case_id: str) -> list[AuditLine]:
        """The case's audit trail, oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(select(audit).where(audit.c.case_id == case_id).order_by(audit.c.id))
            return [AuditLine(**row._asdict()) for row in rows]

    def overdue(self, now: datetime) -> list[Case]:
        """Cases whose next stage no worker has claimed, or whose worker has vanished: their work must be posted again."""
        working = [str(s) for s in STAGE_OF if s is not CaseState.DELIVERING]
        with self._database.reading() as connection:
            rows = connection.execute(
                select(cases).where(cases.c.state.in_(working), or_(cases.c.lease_until.is_(None), cases.c.lease_until < now))
            )
            return [case_of(row) for row in rows]

    def held(self) -> list[Case]:
        """Cases that a worker has claimed."""
        with self._database.reading() as connection:
            return [case_of(row) for row in connection.execute(select(cases).where(cases.c.holder.is_not(None)))]

    # moving ----------------------------------------------------------------------------------------------------------------------

    def begin(self, case_id: str, state: CaseState, *, holder: str, lease_s: float, takeover: bool = False) -> Case | None:
        """Claim the stage that takes the case out of `state`; counts an attempt.

        Parameters
        ----------
        holder
            Who works on it, for the record (host and process).
        takeover
            Take it although another holder's lease runs on: the broker says that the other one is gone.

        Returns
        -------
        The claimed case, or None: it has moved on, or another worker is at it.
        """
        now = self._database.clock()
        with self._database.transaction() as connection:
            mine = (cases.c.case_id == case_id) & (cases.c.state == state)
            if not takeover:
                mine &= or_(cases.c.holder.is_(None), cases.c.lease_until < now)
            moved = connection.execute(
                update(cases)
                .where(mine)
                .values(attempts=cases.c.attempts + 1, holder=holder, lease_until=now + timedelta(seconds=lease_s), updated_at=now)
            ).rowcount
            if not moved:
                return None
            case = case_of(connection.execute(select(cases).where(cases.c.case_id == case_id)).one())
            record(connection, now, f"stage.{STAGE_OF[state]}.begun", case_id, attempt=case.attempts, holder=holder)
            return case

    def release(self, case_id: str, state: CaseState, *, holder: str, why: str, not_before: datetime) -> bool:
        """Give a stage that `holder` has claimed back after a failed attempt; its work is posted again for `not_before`."""
        now = self._database.clock()
        with self._database.transaction() as connection:
            moved = connection.execute(
                update(cases)
                .where(cases.c.case_id == case_id, cases.c.state == state, cases.c.holder == holder)
                .values(holder=None, lease_until=not_before + self._database.queue_lease, updated_at=now)
            ).rowcount
            if not moved:
                return False
            record(connection, now, f"stage.{STAGE_OF[state]}.failed", case_id, why=why)
            post(connection, now, Work(STAGE_OF[state], case_id), not_before)
            return True

    def repost(self, case: Case) -> bool:
        """Post the case's work again (it was lost on the way, or its worker vanished). It is checked again after twice the time."""
        now = self._database.clock()
        with self._database.transaction() as connection:
            waited = now - case.updated_at
            lease = max(self._database.queue_lease, waited)
            moved = connection.execute(
                update(cases)
                .where(
                    cases.c.case_id == case.case_id,
                    cases.c.state == case.state,
                    or_(cases.c.lease_until.is_(None), cases.c.lease_until < now),
                )
                .values(holder=None, lease_until=now + lease)
            ).rowcount
            if moved:
                record(connection, now, "work.posted_again", case.case_id, stage=str(STAGE_OF[case.state]))
                post(connection, now, Work(STAGE_OF[case.state], case.case_id))
            return bool(moved)

    def advance(self, case_id: str, before: CaseState, after: CaseState, *, work: Sequence[Work] = (), **facts: Any) -> bool:
        """Move the case along the table, and post the work that follows, in one transaction.

        Parameters
        ----------
        facts
            Columns to set with it: `case_key`, `reason`, `detail`, `failed_stage`, `model`, and those of the finding.

        Returns
        -------
        Whether it was moved; False when the case is no longer in `before`.

        Raises
        ------
        IllegalTransition
            The table has no way from `before` to `after`.
        """
        with self._database.transaction() as connection:
            return self.advance_in(connection, case_id, before, after, work=work, **facts)

    def advance_in(
        self, connection: Connection, case_id: str, before: CaseState, after: CaseState, *, work: Sequence[Work] = (), **facts: Any
    ) -> bool:
        """`advance` inside a transaction of the caller's."""
        check_transition(before, after)
        now = self._database.clock()
        waiting = None if after in ENDS else now + self._database.queue_lease
        columns = {k: str(v) if k in {"reason", "failed_stage"} and v is not None else v for k, v in facts.items()}
        moved = connection.execute(
            update(cases)
            .where(cases.c.case_id == case_id, cases.c.state == before)
            .values(state=after, attempts=0, holder=None, lease_until=waiting, updated_at=now, **columns)
        ).rowcount
        if moved:
            detail = {k: v for k, v in columns.items() if k in {"reason", "detail", "failed_stage"} and v}
            record(connection, now, f"case.{after}", case_id, **detail)
            for one in work:
                post(connection, now, one)
            if after is CaseState.DELIVERING:
                # not earlier: neither a stray instance that spoils a series nor a page that cannot be drawn may revoke the finding
                # of an earlier revision or end the escalation of its alert
                self._supersede(connection, case_id)
            elif after in WITHOUT_RESULT:
                self._supersede_by_newer(connection, case_id)
        return bool(moved)

    def step_back(self, case_id: str, before: CaseState, after: CaseState, *, why: str) -> bool:
        """Move a case back to the stage that makes its damaged files again; False when it is no longer in `before`."""
        with self._database.transaction() as connection:
            if not self.advance_in(connection, case_id, before, after, work=[Work(STAGE_OF[after], case_id)]):
                return False
            record(connection, self._database.clock(), STEPPED_BACK, case_id, before=str(before), after=str(after), why=why)
            return True

    def supersede_earlier(self, case_id: str) -> list[str]:
        """End all earlier revisions of the case's series as superseded by it; returns their ids.

        A revision that gets a result does so by itself, see `advance_in`.
        """
        with self._database.transaction() as connection:
            return self._supersede(connection, case_id)

    def _supersede_by_newer(self, connection: Connection, case_id: str) -> None:
        """Supersede a revision that has ended without a result by the newest one that was decided about while it was in work."""
        mine = connection.execute(select(cases.c.series_uid, cases.c.revision).where(cases.c.case_id == case_id)).one()
        if mine.series_uid is None:
            return
        newest = connection.execute(
            select(cases.c.case_id)
            .where(
                cases.c.series_uid == mine.series_uid,
                cases.c.revision > mine.revision,
                cases.c.state.not_in([str(CaseState.RECEIVING), str(CaseState.SUPERSEDED)]),
            )
            .order_by(cases.c.revision.desc())
            .limit(1)
        ).scalar_one_or_none()
        if newest is not None:
            self._supersede(connection, newest, only=case_id)

    def _supersede(self, connection: Connection, case_id: str, *, only: str | None = None) -> list[str]:
        now = self._database.clock()
        newest = connection.execute(select(cases.c.series_uid, cases.c.revision).where(cases.c.case_id == case_id)).one()
        earlier = connection.execute(
            select(cases.c.case_id, cases.c.state).where(
                cases.c.series_uid == newest.series_uid,
                cases.c.revision < newest.revision,
                cases.c.state != CaseState.SUPERSEDED,
            )
        ).all()
        earlier = [row for row in earlier if only in (None, row.case_id)]
        for row in earlier:
            check_transition(CaseState(row.state), CaseState.SUPERSEDED)
            connection.execute(
                update(cases)
                .where(cases.c.case_id == row.case_id)
                .values(state=CaseState.SUPERSEDED, superseded_by=case_id, holder=None, lease_until=None, updated_at=now)
            )
            record(connection, now, "case.superseded", row.case_id, by=case_id)
        return [row.case_id for row in earlier]

    def retry(self, case_id: str) -> Stage | None:
        """Start the stage again at which the case failed; returns it, or None when there is nothing to start."""
        with self._database.transaction() as connection:
            row = connection.execute(select(cases).where(cases.c.case_id == case_id)).one_or_none()
            if row is None:
                return None
            case = case_of(row)
            if case.state not in {CaseState.FAILED, CaseState.NOT_ANALYSED} or case.case_key is None:
                return None
            stage = case.failed_stage or Stage.PREPARE
            state = next(s for s, its in STAGE_OF.items() if its is stage)
            if state is CaseState.DELIVERING:
                stage, state = Stage.RENDER, CaseState.DETECTED  # renders again and posts every delivery that is not sent
            self.advance_in(
                connection, case_id, case.state, state, work=[Work(stage, case_id)], reason=None, detail="", failed_stage=None
            )
            # the recipients of this end's notices get those of the next end too
            rows = connection.scalars(select(deliveries.c.destination).where(deliveries.c.case_id == case_id)).all()
            notices = [name for name in rows if name in NOTICES or is_only_notice(name)]
            connection.execute(delete(deliveries).where(deliveries.c.case_id == case_id, deliveries.c.destination.in_(notices)))
            return stage

    def mark_files_removed(self, case_id: str) -> None:
        """Retention removed the case's files; the row stays."""
        now = self._database.clock()
        with self._database.transaction() as connection:
            connection.execute(update(cases).where(cases.c.case_id == case_id).values(files_removed=True))
            record(connection, now, "case.files_removed", case_id)


def case_of(row: Row[Any]) -> Case:
    """A case from its row."""
    values = as_values(row)
    values["state"] = CaseState(values["state"])
    values["reason"] = Reason(values["reason"]) if values["reason"] else None
    values["failed_stage"] = Stage(values["failed_stage"]) if values["failed_stage"] else None
    return Case(**values)
