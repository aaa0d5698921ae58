"""Assembler: groups received instances into series, and decides when a series is complete.

A step may be interrupted anywhere. Files that are not in the ledger yet are found again in the spool, and every change of a case's
state is one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError

from config.settings import Settings
from conversion.headers import read_instance as read_dicom_instance
from corewatch.arrival import Arrival, ArrivalSource
from corewatch.completeness import Transfer, Wait, decide, summarise
from daemon.intake.arrivals import ReadInstance, transfer_of
from daemon.intake.expected_counts import ExpectedCounts
from daemon.intake.recovery import recover, triage_single_files
from daemon.intake.spool_indexer import SpoolIndexer
from daemon.intake.triage import Triage
from foundation.heartbeat import LISTENER_HEARTBEAT, UNKNOWN, HeartbeatWatch, Listening
from ledger.intake import ReceivingSeries
from ledger.store import Ledger

log = structlog.get_logger()

DECIDE_INTERVAL = timedelta(seconds=1)
"""Shortest time between two decisions about a series whose headers give its number of instances."""

SINGLE_FILE_RETRY = timedelta(seconds=10)
"""Triage of a single file's case happens as soon as it is opened, and is retried after this long if it failed."""

DECIDE_ATTEMPTS = 5
"""Failed decisions before the case is ended as failed."""

LISTENER_AWAY_LIMIT_S = 3600.0
"""A listener that is away for longer delays no series any more."""

_UNDECIDED = "corewatch could not decide about the series; the log holds the cause"


class Assembler:
    """Turns received instances into cases. Used by one thread.

    Parameters
    ----------
    read_instance
        Reads a header; see `daemon.intake.arrivals.ReadInstance`. None: the reader of DICOM headers, with this installation's key
        for searches.
    expected
        Expected number of instances according to the senders; None: only the headers count.
    listening
        Whether the listener accepts associations; None: according to its heartbeat file.
    """

    def __init__(
        self,
        ledger: Ledger,
        settings: Settings,
        read_instance: ReadInstance | None = None,
        expected: ExpectedCounts | None = None,
        listening: Callable[[datetime], Listening] | None = None,
    ) -> None:
        self._expected = expected or ExpectedCounts((), None)
        self._ledger = ledger
        self._received = settings.received_dir
        self._idle, self._grace_s = timedelta(seconds=settings.series.idle_s), settings.series.grace_s
        self._short_wait_s, self._retry_wait_s = settings.series.short_wait_s, settings.series.retry_wait_s
        self._listening = listening or HeartbeatWatch(settings.data_dir / LISTENER_HEARTBEAT).observe
        self._listener = UNKNOWN
        self._triage = Triage(ledger, settings)
        read = read_instance or partial(read_dicom_instance, search_key=settings.search_key())
        self._indexer = SpoolIndexer(ledger, self._triage, settings.received_dir, read)
        self._recovered = False
        self._single_files_at: datetime | None = None
        # per series that is being received: when the next decision is due, when it last got an instance, failed decisions
        self._due_at: dict[str, datetime] = {}
        self._last_stored: dict[str, datetime] = {}
        self._failures: dict[str, int] = {}
        self._decide_now = True
        self._clock_set_at: datetime | None = None
        self._started_at: datetime | None = None

    def step(self, now: datetime) -> int:
        """Index the spool, then decide about the series that are due. Returns how many cases changed their state."""
        before = self._triage.moved
        if not self._recovered:
            recover(self._ledger, self._triage, self._received, now)
            self._recovered = True
            self._started_at = now
        self._listener = self._listening(now)
        if self._single_files_at is None or now - self._single_files_at >= SINGLE_FILE_RETRY:
            triage_single_files(self._ledger, self._triage, now - SINGLE_FILE_RETRY)
            self._single_files_at = now
        changes = self._indexer.step(now)
        for series_uid, stored_at in changes.series.items():
            self._last_stored[series_uid] = stored_at
            # without a number in the headers nothing is complete before the idle time or the end of an arrival
            due = now + DECIDE_INTERVAL if series_uid in changes.promised or self._expected.enabled else stored_at + self._idle
            self._due_at[series_uid] = min(self._due_at.get(series_uid, due), due)
        if changes.arrival_ended:
            self._due_at.clear()  # a series without an entry is due
            self._decide_now = True
        self._due_at |= dict.fromkeys(self._expected.answered(), now)
        if self._decide_now or any(at <= now for at in self._due_at.values()):
            self._decide_all(now)
            self._decide_now = False
        return self._triage.moved - before

    def clock_jumped(self, now: datetime) -> None:
        """The system clock was set and shows `now`: idle times start again."""
        self._clock_set_at = self._started_at = now
        self._decide_now, self._single_files_at = True, None
        self._due_at.clear()
        for arrival in self._indexer.open.values():
            arrival.last_change = now

    def due_in_s(self, now: datetime) -> float:
        """Seconds until the next decision is due; infinite when no series waits."""
        return min(((at - now).total_seconds() for at in self._due_at.values()), default=float("inf"))

    def _decide_all(self, now: datetime) -> None:
        receiving = self._ledger.intake.receiving()
        for series in receiving:
            if self._due_at.get(series.series_uid, now) > now:
                continue
            try:
                self._decide(series, now)
            except (OperationalError, InterfaceError):
                raise
            except Exception:
                self._count_failure(series, now)
        self._forget_all_but({s.series_uid for s in receiving})
        self._indexer.forget_past({a for s in receiving for a in s.arrivals})

    def _decide(self, series: ReceivingSeries, now: datetime) -> None:
        carriers = list(self._carriers(series))
        signs = summarise(self._transfers(series, carriers, now))
        quiet_since = self._quiet_since(series, now)
        listener = self._listener if any(c.source is ArrivalSource.C_STORE for c in carriers) else UNKNOWN
        away = 0 < listener.away_s <= LISTENER_AWAY_LIMIT_S
        is_open = (self._indexer.open.get(c.arrival_id) for c in carriers)
        # a drop that we are storing ourselves is not silent, however slow its share is
        storing = any(a is not None and a.closing is None and a.is_being_written() for a in is_open)
        missed = away or (listener.since is not None and listener.since > quiet_since)
        answer = decide(
            series.instances,
            last_stored_at=quiet_since,
            expected=self._expected.of(
                series.instances[0].study_uid,
                series.series_uid,
                [c.peer_ae_title for c in carriers],
                have=len(series.instances),
                last_stored_at=quiet_since,
                now=now,
            ),
            open_arrivals=signs.open_arrivals,
            aborted=signs.aborted,
            one_after_another=signs.one_after_another,
            now=now,
            idle_s=self._idle.total_seconds(),
            grace_s=self._grace_s,
            short_wait_s=self._short_wait_s,
            heard_since=max((at for at in (listener.since, self._started_at) if at is not None), default=None),
            deaf=away or storing,
            interrupted=signs.interrupted or missed,
            retry_wait_s=self._retry_wait_s,
        )
        if isinstance(answer, Wait):
            self._due_at[series.series_uid] = answer.until
            return
        log.info("series_complete", case=series.case_id, instances=len(series.instances), why=answer.why)
        dropped = any(a.source is ArrivalSource.FOLDER for a in carriers)
        self._triage.triage(series, solicited=self._is_solicited(series, carriers), dropped=dropped)
        self._due_at.pop(series.series_uid, None)

    def _quiet_since(self, series: ReceivingSeries, now: datetime) -> datetime:
        """When the series last got an instance. Times in the future date from before the clock was set back and are ignored."""
        if series.last_stored_at > now and self._clock_set_at is None:
            self._clock_set_at = now
        moments = (series.last_stored_at, self._last_stored.get(series.series_uid), self._clock_set_at)
        return max((at for at in moments if at is not None and at <= now), default=now)

    def _count_failure(self, series: ReceivingSeries, now: datetime) -> None:
        failed = self._failures.get(series.series_uid, 0) + 1
        self._failures[series.series_uid] = failed
        log.exception("decision_failed", case=series.case_id, attempt=failed)
        if failed < DECIDE_ATTEMPTS:
            self._due_at[series.series_uid] = now + DECIDE_INTERVAL
            return
        case = self._ledger.cases.get(series.case_id)
        if case is not None:
            self._triage.fail(case, _UNDECIDED)

    def _forget_all_but(self, receiving: set[str]) -> None:
        self._due_at = {k: v for k, v in self._due_at.items() if k in receiving}
        self._last_stored = {k: v for k, v in self._last_stored.items() if k in receiving}
        self._failures = {k: v for k, v in self._failures.items() if k in receiving}
        self._expected.forget_all_but(receiving)

    def _is_solicited(self, series: ReceivingSeries, carriers: list[Arrival]) -> bool:
        """Whether it was dropped into a folder, or received over associations that carried nothing else."""
        if any(a.source is ArrivalSource.FOLDER for a in carriers):
            return True
        carried: set[str] = set()
        for carrier in carriers:
            arrival = self._indexer.open.get(carrier.arrival_id) or self._indexer.past_arrival(carrier.arrival_id)
            if arrival is not None:
                carried |= arrival.series
        return carried <= {series.series_uid}

    # evidence of completeness ----------------------------------------------------------------------------------------------------

    def _carriers(self, series: ReceivingSeries) -> Iterator[Arrival]:
        """Arrivals that carried instances of the series, repeated ones included."""
        ids = set(series.arrivals)
        for arrival_id, is_open in self._indexer.open.items():
            if arrival_id in ids or series.series_uid in is_open.series:
                ids.discard(arrival_id)
                yield is_open.arrival
        for arrival_id in sorted(ids):
            past = self._indexer.past_arrival(arrival_id)
            if past is not None:
                yield past.arrival

    def _transfers(self, series: ReceivingSeries, carriers: list[Arrival], now: datetime) -> Iterator[Transfer]:
        for arrival in carriers:
            is_open = self._indexer.open.get(arrival.arrival_id)
            if is_open is not None:
                yield is_open.transfer(now, self._idle, carried=True)
            elif (past := self._indexer.past_arrival(arrival.arrival_id)) is not None and past.closing is not None:
                yield transfer_of(arrival, past.closing)
        ids = {a.arrival_id for a in carriers}
        for arrival_id, other in self._indexer.open.items():
            # an association that carried other series only is its sender's next transfer, not a part of this series
            if arrival_id not in ids and (other.left or not other.series) and any(other.same_sender(a) for a in carriers):
                yield other.transfer(now, self._idle, carried=False)
