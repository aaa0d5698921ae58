"""From the spool to queued cases: takes images in, and decides about every series that is due.

A step may be interrupted anywhere. What has no row yet is found again in the spool, what has one is found in the ledger, and every
move of a case is one transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError

from config.settings import Settings
from conversion.headers import read_instance as read_dicom_instance
from corewatch.arrival import Arrival, ArrivalSource
from corewatch.completeness import Transfer, Wait, decide, summarise
from daemon.intake.admission import Admission
from daemon.intake.arrivals import transfer_of
from daemon.intake.expected_counts import ExpectedCounts
from daemon.intake.indexer import Taking
from daemon.intake.indexing import ReadInstance
from daemon.upkeep.recovery import end_singles, recover
from ledger.intake import ReceivingSeries
from ledger.store import Ledger

log = structlog.get_logger()

LOOK_AGAIN = timedelta(seconds=1)
"""While images of a series pour in that says how many it has, it is looked at no more often than this."""

SINGLES_AFTER = timedelta(seconds=10)
"""The case of a single file is moved on as soon as it is opened. One that this failed for is moved on after so long."""

DECIDE_ATTEMPTS = 5
"""Steps in which a decision may fail before the case goes to an operator."""

_UNDECIDED = "corewatch could not decide about the series; the log holds the cause"


class Assembler:
    """Turns arrived images into cases. Used by one thread.

    Parameters
    ----------
    read_instance
        Reads a header; see `daemon.intake.indexing.ReadInstance`.
    expected
        Knows from the senders how many images a series has; None: only the images tell.
    """

    def __init__(
        self,
        ledger: Ledger,
        settings: Settings,
        read_instance: ReadInstance = read_dicom_instance,
        expected: ExpectedCounts | None = None,
    ) -> None:
        self._expected = expected or ExpectedCounts((), None)
        self._ledger = ledger
        self._received = settings.received_dir
        self._idle, self._grace_s = timedelta(seconds=settings.series.idle_s), settings.series.grace_s
        self._short_wait_s = settings.series.short_wait_s
        self._admission = Admission(ledger, settings)
        self._taking = Taking(ledger, self._admission, settings.received_dir, read_instance)
        self._recovered = False
        self._singles_seen: datetime | None = None
        # per series that is being received: when to look again, when something last came, how often the decision failed
        self._look_at: dict[str, datetime] = {}
        self._active: dict[str, datetime] = {}
        self._failed: dict[str, int] = {}
        self._must_look = True
        self._jumped_at: datetime | None = None

    def step(self, now: datetime) -> int:
        """Take in what lies in the spool, then decide about the series that are due. Returns how many cases were moved on."""
        before = self._admission.moved
        if not self._recovered:
            recover(self._ledger, self._admission, self._received, now)
            self._recovered = True
        if self._singles_seen is None or now - self._singles_seen >= SINGLES_AFTER:
            end_singles(self._ledger, self._admission, now - SINGLES_AFTER)
            self._singles_seen = now
        changes = self._taking.step(now)
        for series_uid, stored_at in changes.series.items():
            self._active[series_uid] = stored_at
            # without a promised number nothing can be complete before the idle time or the end of an arrival
            due = now + LOOK_AGAIN if series_uid in changes.promised or self._expected.asks else stored_at + self._idle
            self._look_at[series_uid] = min(self._look_at.get(series_uid, due), due)
        if changes.arrival_ended:
            self._look_at.clear()  # a series without an entry is due
            self._must_look = True
        self._look_at |= dict.fromkeys(self._expected.answered(), now)
        if self._must_look or any(at <= now for at in self._look_at.values()):
            self._decide_all(now)
            self._must_look = False
        return self._admission.moved - before

    def clock_jumped(self, now: datetime) -> None:
        """The system's clock was set and shows `now`. What is known of quiet times is worth nothing: they begin anew."""
        self._jumped_at, self._must_look, self._singles_seen = now, True, None
        self._look_at.clear()
        for arrival in self._taking.open.values():
            arrival.last_change = now

    def due_in_s(self, now: datetime) -> float:
        """Seconds until a series is to be looked at again; infinite where none waits."""
        return min(((at - now).total_seconds() for at in self._look_at.values()), default=float("inf"))

    def _decide_all(self, now: datetime) -> None:
        receiving = self._ledger.intake.receiving()
        for series in receiving:
            if self._look_at.get(series.series_uid, now) > now:
                continue
            try:
                self._decide(series, now)
            except (OperationalError, InterfaceError):
                raise
            except Exception:
                self._give_up_slowly(series, now)
        self._forget_all_but({s.series_uid for s in receiving})
        self._taking.forget_past({a for s in receiving for a in s.arrivals})

    def _decide(self, series: ReceivingSeries, now: datetime) -> None:
        carriers = list(self._carriers(series))
        signs = summarise(self._transfers(series, carriers, now))
        quiet_since = self._quiet_since(series, now)
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
        )
        if isinstance(answer, Wait):
            self._look_at[series.series_uid] = answer.until
            return
        log.info("series complete", case=series.case_id, instances=len(series.instances), why=answer.why)
        self._admission.admit(series, on_purpose=self._is_on_purpose(series, carriers))
        self._look_at.pop(series.series_uid, None)

    def _quiet_since(self, series: ReceivingSeries, now: datetime) -> datetime:
        """When something last came. A moment in the future is from before the clock was set back, and says nothing."""
        if series.last_stored_at > now and self._jumped_at is None:
            self._jumped_at = now
        moments = (series.last_stored_at, self._active.get(series.series_uid), self._jumped_at)
        return max((at for at in moments if at is not None and at <= now), default=now)

    def _give_up_slowly(self, series: ReceivingSeries, now: datetime) -> None:
        failed = self._failed.get(series.series_uid, 0) + 1
        self._failed[series.series_uid] = failed
        log.exception("a decision failed", case=series.case_id, attempt=failed)
        if failed < DECIDE_ATTEMPTS:
            self._look_at[series.series_uid] = now + LOOK_AGAIN
            return
        case = self._ledger.cases.get(series.case_id)
        if case is not None:
            self._admission.fail(case, _UNDECIDED)

    def _forget_all_but(self, receiving: set[str]) -> None:
        self._look_at = {k: v for k, v in self._look_at.items() if k in receiving}
        self._active = {k: v for k, v in self._active.items() if k in receiving}
        self._failed = {k: v for k, v in self._failed.items() if k in receiving}
        self._expected.forget_all_but(receiving)

    def _is_on_purpose(self, series: ReceivingSeries, carriers: list[Arrival]) -> bool:
        """Whether it was dropped into a folder, or came over associations that brought nothing else."""
        if any(a.source is ArrivalSource.FOLDER for a in carriers):
            return True
        brought: set[str] = set()
        for carrier in carriers:
            arrival = self._taking.open.get(carrier.arrival_id) or self._taking.past_arrival(carrier.arrival_id)
            if arrival is not None:
                brought |= arrival.series
        return brought <= {series.series_uid}

    # signs of completeness --------------------------------------------------------------------------------------------------------

    def _carriers(self, series: ReceivingSeries) -> Iterator[Arrival]:
        """Arrivals that brought images of the series, repeated ones included."""
        ids = set(series.arrivals)
        for arrival_id, is_open in self._taking.open.items():
            if arrival_id in ids or series.series_uid in is_open.series:
                ids.discard(arrival_id)
                yield is_open.arrival
        for arrival_id in sorted(ids):
            past = self._taking.past_arrival(arrival_id)
            if past is not None:
                yield past.arrival

    def _transfers(self, series: ReceivingSeries, carriers: list[Arrival], now: datetime) -> Iterator[Transfer]:
        for arrival in carriers:
            is_open = self._taking.open.get(arrival.arrival_id)
            if is_open is not None:
                yield is_open.transfer(now, self._idle, carried=True)
            elif (past := self._taking.past_arrival(arrival.arrival_id)) is not None and past.closing is not None:
                yield transfer_of(arrival, past.closing)
        ids = {a.arrival_id for a in carriers}
        for arrival_id, other in self._taking.open.items():
            # an association that has brought other series only is the next one of its sender, not a part of this one
            if arrival_id not in ids and (other.left or not other.series) and any(other.same_sender(a) for a in carriers):
                yield other.transfer(now, self._idle, carried=False)
