"""Worklist: the cases as their readers need them, open alerts first, then the newest, a page at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, and_, func, or_, select, tuple_

from corewatch.destinations import gets_results
from corewatch.states import CaseState, DeliveryState
from ledger.alerts import Alert, EscalationLevel, EscalationState
from ledger.cases import Case, case_of
from ledger.database import Database
from ledger.deliveries import Delivery, delivery_of
from ledger.tables import alerts, arrivals, cases, deliveries, escalations, series_arrivals

PAGE: Final = 50

_OPEN: Final = and_(alerts.c.case_id.is_not(None), alerts.c.acknowledged_at.is_(None), cases.c.state != CaseState.SUPERSEDED)


@dataclass(frozen=True, slots=True)
class WorklistFilter:
    """Which cases a list shows; all conditions together. Superseded revisions are shown where `states` or `identifier_hash` asks.

    Attributes
    ----------
    open_alerts
        Only alerts that nobody has acknowledged.
    acknowledged_by
        Only alerts that this person has acknowledged.
    since, until
        When the last image was stored.
    identifier_hash
        Keyed hash of an accession number or a Patient ID (`corewatch.search_keys`).
    """

    open_alerts: bool = False
    alerts_only: bool = False
    states: tuple[CaseState, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    scanner: str | None = None
    acknowledged_by: str | None = None
    identifier_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page begins: after the case with this place in the order."""

    open_alert: bool
    last_stored_at: datetime
    case_id: str

    def __str__(self) -> str:
        return f"{'a' if self.open_alert else 'c'}.{self.last_stored_at.isoformat()}.{self.case_id}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Back from text. Raises `ValueError` where it is none."""
        kind, _, rest = text.partition(".")
        moment, _, case_id = rest.rpartition(".")
        at = datetime.fromisoformat(moment)
        if kind not in {"a", "c"} or at.tzinfo is None or not case_id:
            raise ValueError("no cursor of the worklist")
        return cls(kind == "a", at, case_id)


@dataclass(frozen=True, slots=True)
class WorklistRow:
    """One case with what is known of its alert and its deliveries.

    Attributes
    ----------
    alerted_after
        From the last stored image to the first delivery that was sent; None where none was.
    next_escalation
        The first level that is not due yet.
    senders
        AE titles of the peers, or what brought the files.
    """

    case: Case
    alert: Alert | None
    alerted_after: timedelta | None
    next_escalation: EscalationLevel | None
    deliveries: tuple[Delivery, ...]
    senders: tuple[str, ...]

    @property
    def has_open_alert(self) -> bool:
        """Whether somebody still has to acknowledge it."""
        return self.alert is not None and self.alert.acknowledged_at is None and self.case.state is not CaseState.SUPERSEDED


@dataclass(frozen=True, slots=True)
class WorklistPage:
    """A page and where the next one begins; None: there is none."""

    rows: tuple[WorklistRow, ...]
    following: Cursor | None


class Worklist:
    """Reading the worklist. Each method is one view of the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, wanted: WorklistFilter, after: Cursor | None = None, limit: int = PAGE) -> WorklistPage:
        """One page of the list."""
        with self._database.reading() as connection:
            found: list[Any] = []
            for open_alert in (True, False):
                if (after is not None and open_alert and not after.open_alert) or (wanted.open_alerts and not open_alert):
                    continue
                query = _query(wanted, open_alert=open_alert)
                if after is not None and after.open_alert is open_alert:
                    place = tuple_(cases.c.last_stored_at, cases.c.case_id)
                    query = query.where(place < (after.last_stored_at, after.case_id))
                found += connection.execute(query.limit(limit + 1 - len(found))).all()
                if len(found) > limit:
                    break
            shown = found[:limit]
            rows = tuple(_rows(connection, [row.case_id for row in shown]))
        if len(found) <= limit:
            return WorklistPage(rows, None)
        last = rows[-1]
        return WorklistPage(rows, Cursor(last.has_open_alert, last.case.last_stored_at, last.case.case_id))

    def row(self, case_id: str) -> WorklistRow | None:
        """One case; None where the id is unknown."""
        with self._database.reading() as connection:
            return next(iter(_rows(connection, [case_id])), None)

    def open_alerts(self) -> int:
        """Number of alerts that nobody has acknowledged."""
        joined = alerts.join(cases, cases.c.case_id == alerts.c.case_id)
        query = select(func.count()).select_from(joined).where(alerts.c.acknowledged_at.is_(None))
        with self._database.reading() as connection:
            return int(connection.scalar(query.where(cases.c.state != CaseState.SUPERSEDED)) or 0)

    def counts(self, since: datetime) -> dict[CaseState, int]:
        """Number of cases by state whose last image was stored since then."""
        query = select(cases.c.state, func.count().label("number")).where(cases.c.last_stored_at >= since).group_by(cases.c.state)
        with self._database.reading() as connection:
            return {CaseState(row.state): int(row.number) for row in connection.execute(query)}

    def scanners(self, since: datetime) -> tuple[str, ...]:
        """Scanners of the cases since then, for a choice."""
        query = select(cases.c.scanner).where(cases.c.scanner.is_not(None), cases.c.last_stored_at >= since).distinct()
        with self._database.reading() as connection:
            return tuple(sorted(connection.scalars(query.limit(50))))


def _query(wanted: WorklistFilter, *, open_alert: bool) -> Select[Any]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.states:
        conditions.append(cases.c.state.in_([str(state) for state in wanted.states]))
    elif wanted.identifier_hash is None:
        conditions.append(cases.c.state != CaseState.SUPERSEDED)
    if wanted.alerts_only or wanted.acknowledged_by is not None:
        conditions.append(alerts.c.case_id.is_not(None))
    if wanted.acknowledged_by is not None:
        conditions.append(alerts.c.acknowledged_by == wanted.acknowledged_by)
    if wanted.since is not None:
        conditions.append(cases.c.last_stored_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(cases.c.last_stored_at < wanted.until)
    if wanted.scanner is not None:
        conditions.append(cases.c.scanner == wanted.scanner)
    if wanted.identifier_hash is not None:
        same = (cases.c.accession_hash == wanted.identifier_hash, cases.c.patient_id_hash == wanted.identifier_hash)
        conditions.append(or_(*same))
    if open_alert:  # few: the database begins with the alerts
        source = alerts.join(cases, cases.c.case_id == alerts.c.case_id)
        conditions.append(_OPEN)
    else:
        source = cases.outerjoin(alerts, cases.c.case_id == alerts.c.case_id)
        conditions.append(
            or_(alerts.c.case_id.is_(None), alerts.c.acknowledged_at.is_not(None), cases.c.state == CaseState.SUPERSEDED)
        )
    order = (cases.c.last_stored_at.desc(), cases.c.case_id.desc())
    return select(cases.c.case_id).select_from(source).where(*conditions).order_by(*order)


def _rows(connection: Connection, ids: Sequence[str]) -> list[WorklistRow]:
    """Rows of the cases, in this order."""
    if not ids:
        return []
    found = {row.case_id: case_of(row) for row in connection.execute(select(cases).where(cases.c.case_id.in_(ids)))}
    raised = {row.case_id: Alert(**row._asdict()) for row in connection.execute(select(alerts).where(alerts.c.case_id.in_(ids)))}
    sent: dict[str, list[Delivery]] = defaultdict(list)
    for row in connection.execute(select(deliveries).where(deliveries.c.case_id.in_(ids)).order_by(deliveries.c.destination)):
        sent[row.case_id].append(delivery_of(row))
    waiting = (escalations.c.case_id.in_(ids), escalations.c.state == EscalationState.WAITING)
    levels: dict[str, EscalationLevel] = {}
    for row in connection.execute(select(escalations).where(*waiting).order_by(escalations.c.level.desc())):
        levels[row.case_id] = EscalationLevel(row.level, row.due_at, EscalationState(row.state))
    senders = _senders(connection, [case.series_uid for case in found.values() if case.series_uid is not None])
    return [
        WorklistRow(
            case=found[case_id],
            alert=raised.get(case_id),
            alerted_after=_alerted_after(found[case_id], sent[case_id]),
            next_escalation=levels.get(case_id),
            deliveries=tuple(sent[case_id]),
            senders=senders.get(found[case_id].series_uid or "", ()),
        )
        for case_id in ids
        if case_id in found
    ]


def _senders(connection: Connection, series: Sequence[str]) -> dict[str, tuple[str, ...]]:
    names: dict[str, set[str]] = defaultdict(set)
    query = (
        select(series_arrivals.c.series_uid, arrivals.c.peer_ae_title, arrivals.c.source)
        .join(arrivals, arrivals.c.arrival_id == series_arrivals.c.arrival_id)
        .where(series_arrivals.c.series_uid.in_(series))
        .distinct()
    )
    for row in connection.execute(query):
        names[row.series_uid].add(row.peer_ae_title or row.source)
    return {uid: tuple(sorted(found)) for uid, found in names.items()}


def _alerted_after(case: Case, sent: Sequence[Delivery]) -> timedelta | None:
    moments = [
        one.sent_at for one in sent if one.state is DeliveryState.SENT and one.sent_at is not None and gets_results(one.destination)
    ]
    if not case.alert or not moments:
        return None
    return max(timedelta(), min(moments) - case.last_stored_at)
