"""One watched folder: scan, wait until drops have settled, group them, ingest each group, archive the originals.

Originals are moved to `processed` or `rejected`, with a note that gives the reason. Nothing is ever deleted.
"""

from __future__ import annotations

import errno
import traceback
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from config.intake import WatchedFolder
from config.settings import Settings
from corewatch.arrival import ArrivalSource
from corewatch.clock import Clock
from corewatch.units import GIB
from daemon.watch.archive import move_to_archive, note_text, prepare_archive
from daemon.watch.content import LeftOut
from daemon.watch.copy_checks import BROKEN_OFF
from daemon.watch.ingest import IngestRules, IngestSummary, ingest
from daemon.watch.members import PERMISSIONS_REMEDY, DropChanged, DropIncomplete, DropRejected, unpacked_bytes
from daemon.watch.recipients import allowed_recipients, is_recipients
from daemon.watch.rejection import RejectedDrop, drop_id, occurrence_of
from daemon.watch.scan import PROCESSED, REJECTED, Drop, DropLimits, scan
from daemon.watch.settling import DropGroup, Observation, StabilityTracker, group_settled
from foundation.backoff import Backoff, RetryTimer
from foundation.disk import FreeBytes, free_bytes
from foundation.durable import make_folders
from foundation.outages import OutageTracker
from ledger.spool import ArrivalWriter

log = structlog.get_logger()

UNFINISHED_SETTLE_S = 60.0
"""A drop with an empty or partial file (by its name) must stay unchanged this long: it is probably still being copied."""
LOOSE_WAIT_S = 30.0
"""Longest wait of settled loose files for others that are still being written."""
SPOOL_BACKOFF = Backoff.constant(30.0)
"""Wait after the spool could not be written, so that attempts do not fill it further."""
MAX_ATTEMPTS = 5
"""Attempts at a drop that cannot be read or keeps changing."""
MAX_LOGGED = 20
"""Drops named in one log line."""


_LEFT_OUT = "These files were left out; the rest was taken."


class Inbox:
    """A watched folder. `poll` does everything; it never raises because of a drop's content.

    Parameters
    ----------
    on_rejected
        Called for every rejected drop, and once for loose files that are rejected together, before they are moved to `rejected`.
        When it raises, they stay and are retried.
    free
        Free bytes of the file system of a folder.
    """

    def __init__(
        self,
        folder: WatchedFolder,
        settings: Settings,
        on_rejected: Callable[[RejectedDrop], None],
        clock: Clock,
        free: FreeBytes = free_bytes,
    ) -> None:
        self._folder = folder
        self._settle_s = settings.watch.settle_s
        self._incomplete_s, self._partial_s = settings.watch.incomplete_s, settings.watch.partial_s
        series = tuple(rule.to_rule() for rule in settings.series.rules)
        self._rules = IngestRules(DropLimits.from_settings(settings.watch), allowed_recipients(settings), series)
        self._received_dir = settings.received_dir
        self._reserve = int(settings.listener.reserve_gib * GIB)
        self._on_rejected = on_rejected
        self._clock = clock
        self._free = free
        self._tracker = StabilityTracker()
        self._outages = OutageTracker()
        self._errors: set[str] = set()
        """Errors of the share or the disk during this poll."""
        self._failures: dict[str, int] = {}
        self._done: dict[str, Hashable] = {}
        """Signatures of drops that are done but could not be moved: they must not be ingested at every poll."""
        self._incomplete: dict[str, _Incomplete] = {}
        """Drops that lack a part which may still be copied."""
        self._spool = RetryTimer(SPOOL_BACKOFF)
        self._refusals: list[_Refusal] = []
        """Of the group that is being ingested."""

    def prepare(self) -> None:
        """Create the folder and its two subfolders where missing; an error is logged and every poll retries."""
        try:
            make_folders(self._folder.path)
            make_folders(self._received_dir)
            for where in (PROCESSED, REJECTED):
                prepare_archive(self._folder.path, where)
        except OSError as error:
            self._log_error("watch_folder_not_usable", str(error.strerror))

    def poll(self, now: float) -> bool:
        """Ingest what has settled; returns whether a drop is waiting to settle."""
        if not self._spool.is_due(now):
            return False
        self._errors = set()
        waiting = self._poll(now)
        for event in self._outages.observe(self._errors).over:
            log.info("share_error_over", folder=str(self._folder.path), error=event)
        return waiting

    def _log_error(self, event: str, detail: str) -> None:
        """Log an error of the share or the disk when it begins."""
        self._errors.add(event)
        if self._outages.failed(event):
            log.error(event, folder=str(self._folder.path), detail=detail)

    def _poll(self, now: float) -> bool:
        try:
            found = scan(self._folder.path, self._rules.limits)
        except OSError as error:
            self._log_error("watch_folder_not_usable", str(error.strerror))
            self.prepare()
            return False
        self._forget_gone(found)
        drops = [d for d in found if d.name not in self._done]
        settled = self._tracker.observe(now, {d.name: Observation(d.signature, self._settle_time(d)) for d in drops})
        max_wait_s = self._settle_s + LOOSE_WAIT_S
        grouping = group_settled(drops, settled, lambda name: self._tracker.unchanged_for(name, now), max_wait_s)
        for group in grouping.groups:
            self._ingest(group, now)
            self._reject_refused()
        return grouping.waiting

    def _forget_gone(self, found: Sequence[Drop]) -> None:
        present = {d.name: d.signature for d in found}
        self._done = {name: signature for name, signature in self._done.items() if present.get(name) == signature}
        self._incomplete = {name: i for name, i in self._incomplete.items() if present.get(name) == i.signature}
        self._failures = {name: failures for name, failures in self._failures.items() if name in present}

    def _settle_time(self, drop: Drop) -> float:
        if drop.name in self._incomplete:
            return max(self._incomplete[drop.name].wait_s, self._settle_s)
        return max(UNFINISHED_SETTLE_S, self._settle_s) if drop.unfinished else self._settle_s

    # ingest -----------------------------------------------------------------------------------------------------------------------

    def _ingest(self, group: DropGroup, now: float) -> None:
        try:
            if self._free(self._received_dir) - sum(self._spool_bytes(d) for d in group) < self._reserve:
                self._log_error("disk_nearly_full", "drops stay where they are until there is room")
                self._spool.failed(now)
                return
            final = any(d.name in self._incomplete for d in group)
            summary = ingest(group, self._open_arrival, self._rules, final=final)
            why = {d.name: self._incomplete[d.name].reason for d in group if d.name in self._incomplete}
            self._archive_ingested(group, summary, {name: reason for name, reason in why.items() if BROKEN_OFF in reason})
        except DropChanged:
            self._retry(group, now)
        except DropIncomplete as incomplete:
            self._wait_or_refuse(group, incomplete, now)
        except DropRejected as rejected:
            self._refuse(group, rejected, now)
        except OSError as error:
            # an error of the spool, not of the drop: the drop stays where it is
            self._log_error("spool_not_writable", str(error.strerror))
            self._spool.failed(now)
        except Exception as error:
            # a defect in corewatch: the drop must be neither lost nor retried without end
            frame = traceback.extract_tb(error.__traceback__)[-1]
            log.error("drop_failed", error=type(error).__name__, where=f"{Path(frame.filename).name}:{frame.lineno}")
            self._refuse(group, DropRejected(f"It could not be processed ({type(error).__name__}); see the log."), now)

    def _spool_bytes(self, drop: Drop) -> int:
        """Bytes that the spool may need for a drop. Files that are too large to be ingested do not count."""
        limits = self._rules.limits
        if not drop.is_folder and drop.name.lower().endswith(".zip"):
            unpacked = sum(unpacked_bytes(e) for e in drop.entries)
            return unpacked if unpacked <= limits.archive.total_bytes else 0
        return sum(e.size for e in drop.entries if e.size <= limits.instance_bytes)

    def _open_arrival(self, recipients: Sequence[str]) -> ArrivalWriter:
        email = dict.fromkeys([*self._folder.email, *recipients])
        return ArrivalWriter.open(self._received_dir, ArrivalSource.FOLDER, email=list(email), clock=self._clock)

    def _retry(self, group: DropGroup, now: float) -> None:
        for drop in group:
            self._tracker.restart(drop.name, now)
            self._failures[drop.name] = self._failures.get(drop.name, 0) + 1
        if any(self._failures[d.name] >= MAX_ATTEMPTS for d in group):
            self._refuse(group, DropRejected("It could not be read, or changed again and again while it was read."), now)

    def _wait_or_refuse(self, group: DropGroup, incomplete: DropIncomplete, now: float) -> None:
        """Wait the first time, since an upload may pause; a drop that is still incomplete after that is refused."""
        if any(d.name in self._incomplete for d in group):
            self._refuse(group, incomplete, now)
            return
        for drop in (d for d in group if not is_recipients(d.name) and incomplete.only in {None, d.name}):
            wait_s = self._incomplete_s if incomplete.certain else self._partial_s
            self._incomplete[drop.name] = _Incomplete(drop.signature, wait_s, incomplete.reason)
            log.info(
                "drop_incomplete", folder=str(self._folder.path), drop=drop_id(drop.name), waits_s=wait_s, reason=incomplete.reason
            )

    def _refuse(self, group: DropGroup, rejected: DropRejected, now: float) -> None:
        if len(group) == 1:
            self._refusals.append(_Refusal(group[0], rejected.reason, rejected.left_out))
            return
        for drop in group:  # each by itself: the others must not be refused for the one at fault
            self._ingest([drop], now)

    # archive ----------------------------------------------------------------------------------------------------------------------

    def _archive_ingested(self, group: DropGroup, summary: IngestSummary, broken_off: Mapping[str, str]) -> None:
        log.info(
            "drop_ingested",
            folder=str(self._folder.path),
            drops=[drop_id(d.name) for d in group][:MAX_LOGGED],
            arrivals=summary.arrivals,
            instances=summary.instances,
            duplicates=summary.duplicates,
            aligned=summary.aligned,
            left_out=len(summary.left_out),
        )
        unused = {item.name: item for item in summary.left_out}
        side_cars = {d.name for d in group if is_recipients(d.name)}
        alone = len(group) == len(side_cars) + 1
        for drop in group:
            if drop.name in side_cars:
                left_out = tuple(item for item in summary.left_out if item.name == drop.name)
            elif alone:
                left_out = tuple(item for item in summary.left_out if item.name not in side_cars)
            elif drop.name in unused:
                self._refusals.append(_Refusal(drop, unused[drop.name].reason))
                continue
            else:
                left_out = ()
            reason = " ".join([broken_off.get(drop.name, ""), _LEFT_OUT if left_out else ""]).strip()
            self._archive(drop, PROCESSED, reason, left_out)

    def _reject_refused(self) -> None:
        """Record the refusals of a group as one rejection: the many viewer files of a copied CD were dropped by one person."""
        if not self._refusals:
            return
        refusals, self._refusals = sorted(self._refusals, key=lambda r: r.drop.name), []
        first = refusals[0].drop
        reason = _common_reason(refusals)
        try:
            self._on_rejected(RejectedDrop(self._folder.path, drop_id(first.name), occurrence_of(first), reason, self._clock()))
        except Exception as error:
            self._log_error("rejection_not_recorded", type(error).__name__)
            return
        drops = [drop_id(r.drop.name) for r in refusals][:MAX_LOGGED]
        log.warning("drop_rejected", folder=str(self._folder.path), drops=drops, reason=reason)
        # the one that was recorded is moved last: what a crash leaves here is then recorded as the same rejection
        for refusal in reversed(refusals):
            self._archive(refusal.drop, REJECTED, refusal.reason, refusal.left_out)

    def _archive(self, drop: Drop, where: str, reason: str, left_out: Sequence[LeftOut]) -> None:
        note = note_text(reason, left_out) if reason else None
        try:
            move_to_archive(self._folder.path, drop.name, where, note, self._clock())
        except FileNotFoundError:
            return  # somebody moved it away in the meantime
        except OSError as error:
            self._done[drop.name] = drop.signature
            log.error(
                "drop_not_moved",
                folder=str(self._folder.path),
                drop=drop_id(drop.name),
                to=where,
                error=str(error.strerror),
                remedy=_move_remedy(error),
            )


@dataclass(frozen=True, slots=True)
class _Incomplete:
    signature: Hashable
    wait_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class _Refusal:
    drop: Drop
    reason: str
    left_out: Sequence[LeftOut] = ()


def _common_reason(refusals: Sequence[_Refusal]) -> str:
    reasons = {r.reason for r in refusals}
    if len(refusals) == 1:
        return refusals[0].reason
    if len(reasons) == 1:
        return f"{len(refusals)} files could not be taken. {reasons.pop()}"
    return f"{len(refusals)} files could not be taken; the reason of each lies beside it in the folder of rejected files."


def _move_remedy(error: OSError) -> str:
    by_hand = "move it away by hand; it is not taken again unless it changes or the program restarts"
    if error.errno in {errno.ELOOP, errno.ENOTDIR}:
        return f"{PROCESSED} and {REJECTED} must be folders, not symbolic links; {by_hand}"
    return f"{by_hand}. {PERMISSIONS_REMEDY}" if isinstance(error, PermissionError) else by_hand
