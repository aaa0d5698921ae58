"""Figures of the ledger for monitoring: counts, ages, waits; nothing of a patient or of a single case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, func, select

from corewatch.destinations import gets_results
from corewatch.states import CaseState, DeliveryState
from corewatch.waiting import QUEUE_FOR
from ledger.database import Database
from ledger.tables import alerts, arrivals, cases, deliveries, series_arrivals
from ledger.waiting_cases import waiting_cases

MOST_PEERS: Final = 50
"""Peers that are named, the latest first: the AE title is the sender's own choice, so their number has no limit otherwise."""


@dataclass(frozen=True, slots=True)
class Queue:
    """Cases that wait for the workers of one queue or are in their hands; `oldest` is None where there are none."""

    length: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class LedgerFigures:
    """What the ledger counts at one moment.

    Attributes
    ----------
    cases
        State -> number.
    not_analysed
        Reason -> number.
    queues
        Queue -> what waits in it; every queue is there.
    deliveries
        (destination, state) -> number.
    open_alerts, oldest_open_alert
        Alerts that nobody has acknowledged, and when the oldest was raised.
    alert_seconds
        From the last stored image to the first result that was sent, of each alert.
    last_images
        Peer -> when the last image of its latest case was stored; at most `MOST_PEERS`.
    """

    cases: Mapping[CaseState, int]
    not_analysed: Mapping[str, int]
    queues: Mapping[str, Queue]
    deliveries: Mapping[tuple[str, DeliveryState], int]
    open_alerts: int
    oldest_open_alert: datetime | None
    alert_seconds: Sequence[float]
    last_images: Mapping[str, datetime]


def ledger_figures(database: Database) -> LedgerFigures:
    """Count everything."""
    waiting = [(QUEUE_FOR[one.state], one.since) for one in waiting_cases(database) if one.state in QUEUE_FOR]
    queues = {}
    for name in dict.fromkeys(QUEUE_FOR.values()):
        since = [at for queue, at in waiting if queue == name]
        queues[name] = Queue(len(since), min(since, default=None))
    with database.reading() as connection:
        by_state = connection.execute(select(cases.c.state, func.count()).group_by(cases.c.state)).all()
        reasons = select(cases.c.reason, func.count()).where(cases.c.state == str(CaseState.NOT_ANALYSED)).group_by(cases.c.reason)
        sent = select(deliveries.c.destination, deliveries.c.state, func.count()).group_by(
            deliveries.c.destination, deliveries.c.state
        )
        still_open = (
            select(func.count(), func.min(alerts.c.raised_at))
            .select_from(alerts.join(cases, cases.c.case_id == alerts.c.case_id))
            .where(alerts.c.acknowledged_at.is_(None), cases.c.state != str(CaseState.SUPERSEDED))
        )
        number, oldest = connection.execute(still_open).one()
        return LedgerFigures(
            cases={CaseState(state): int(count) for state, count in by_state},
            not_analysed={str(reason): int(count) for reason, count in connection.execute(reasons)},
            queues=queues,
            deliveries={(str(name), DeliveryState(state)): int(count) for name, state, count in connection.execute(sent)},
            open_alerts=int(number),
            oldest_open_alert=oldest,
            alert_seconds=_alert_seconds(connection),
            last_images=_last_images(connection),
        )


def _alert_seconds(connection: Connection) -> list[float]:
    query = (
        select(deliveries.c.case_id, deliveries.c.destination, deliveries.c.sent_at, cases.c.last_stored_at)
        .join(cases, cases.c.case_id == deliveries.c.case_id)
        .where(cases.c.alert.is_(True), deliveries.c.state == str(DeliveryState.SENT), deliveries.c.sent_at.is_not(None))
    )
    first: dict[str, timedelta] = {}
    for row in connection.execute(query):
        if gets_results(row.destination):
            took = max(timedelta(), row.sent_at - row.last_stored_at)
            first[row.case_id] = min(first.get(row.case_id, took), took)
    return [took.total_seconds() for took in first.values()]


def _last_images(connection: Connection) -> dict[str, datetime]:
    # grouped by plain columns: PostgreSQL takes an expression with parameters in GROUP BY for another one than in SELECT
    named = (arrivals.c.peer_ae_title, arrivals.c.source)
    latest = func.max(cases.c.last_stored_at).label("latest")
    query = (
        select(*named, latest)
        .select_from(
            cases.join(series_arrivals, series_arrivals.c.series_uid == cases.c.series_uid).join(
                arrivals, arrivals.c.arrival_id == series_arrivals.c.arrival_id
            )
        )
        .group_by(*named)
        .order_by(latest.desc(), *named)
        .limit(MOST_PEERS)
    )
    found: dict[str, datetime] = {}
    for row in connection.execute(query):
        found.setdefault(str(row.peer_ae_title or row.source), row.latest)
    return found
