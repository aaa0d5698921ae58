"""One watched folder: what lies in it, what of it has settled, and what becomes of it."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf
from pathlib import Path

import structlog

from config.intake import WatchedFolder
from config.settings import Settings
from corewatch.arrival import ArrivalSource
from corewatch.clock import Clock
from daemon.watch.archive import describe, put_away
from daemon.watch.content import LeftOut
from daemon.watch.drops import TakenDrop, TakingRules, take
from daemon.watch.groups import Group, group
from daemon.watch.limits import DropLimits
from daemon.watch.members import PERMISSIONS_REMEDY, DropChanged, DropIncomplete, DropRejected, unpacked_bytes
from daemon.watch.recipients import allowed_domains, is_recipients
from daemon.watch.scan import PROCESSED, REJECTED, Drop, scan
from daemon.watch.share_errors import Trouble, free_bytes
from daemon.watch.stability import Observation, StabilityTracker
from foundation.durable import make_folders
from ledger.spool import ArrivalWriter

log = structlog.get_logger()

UNFINISHED_SETTLE_S = 60.0
"""A drop with an empty or half-written file (going by its name) must stand still for so long: it is probably still being copied."""
LOOSE_PATIENCE_S = 30.0
"""Loose files wait for each other, so that a series copied file by file becomes one arrival; but not for ever."""
RETRY_S = 30.0
"""Pause after the spool could not be written, so that attempts do not fill it further."""
MOST_ATTEMPTS = 5
"""Attempts at a drop that cannot be read or keeps changing."""
MOST_LOGGED = 20
"""Drops named in one log line."""


@dataclass(frozen=True, slots=True)
class RejectedDrop:
    """A drop that could not be taken, or the first of several loose files. Free of patient data.

    Attributes
    ----------
    folder
        The watched folder; the drop lies in its `rejected` folder, with the reason beside it.
    drop_id
        Hash of the drop's name, as in the log.
    occurrence
        Hash that is the same at every attempt at this drop, and another one when something is dropped again under the same name.
    """

    folder: Path
    drop_id: str
    occurrence: str
    reason: str
    rejected_at: datetime


def drop_id(name: str) -> str:
    """A short hash of a drop's name, which may hold a patient's name and so never reaches a log."""
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:10]


def occurrence_of(drop: Drop) -> str:
    """What tells a drop from a later one of the same name: the file system's number and time of change of the thing itself."""
    try:
        status = drop.path.lstat()
        seen: object = (status.st_ino, status.st_ctime_ns)
    except OSError:
        seen = drop.signature
    return hashlib.sha256(repr((str(drop.path), seen)).encode("utf-8", "surrogateescape")).hexdigest()[:20]


class Inbox:
    """A watched folder. `poll` does everything; it never raises for what people dropped.

    Parameters
    ----------
    on_rejected
        Called for every drop that is refused, and once for loose files that are refused together, before they are put into
        `rejected`; where it raises, they stay and are tried again.
    free
        Free bytes of the file system of a folder.
    """

    def __init__(
        self,
        folder: WatchedFolder,
        settings: Settings,
        on_rejected: Callable[[RejectedDrop], None],
        clock: Clock,
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        self._folder = folder
        self._settle_s, self._incomplete_s = settings.watch.settle_s, settings.watch.incomplete_s
        self._rules = TakingRules(DropLimits.of(settings.watch), allowed_domains(settings))
        self._received_dir = settings.received_dir
        self._reserve = int(settings.listener.reserve_gib * 1024**3)
        self._on_rejected = on_rejected
        self._clock = clock
        self._free = free
        self._tracker = StabilityTracker()
        self._trouble = Trouble(str(folder.path))
        self._failures: dict[str, int] = {}
        self._done: dict[str, Hashable] = {}
        """Signatures of drops that were dealt with but could not be moved: not to be taken again and again."""
        self._incomplete: dict[str, Hashable] = {}
        """Signatures of drops of which a part is missing that may still come."""
        self._not_before = -inf
        self._refused: list[_Refused] = []
        """Of the group that is being taken."""

    def prepare(self) -> None:
        """Make the folder and its two subfolders where they are missing; what fails is logged and tried again at every poll."""
        try:
            for path in (self._folder.path / PROCESSED, self._folder.path / REJECTED, self._received_dir):
                make_folders(path)
        except OSError as error:
            self._trouble.enter("watch_folder_not_usable", str(error.strerror))

    def poll(self, now: float) -> bool:
        """Take what has settled; return whether something is waiting to settle."""
        if now < self._not_before:
            return False
        self._trouble.begin()
        waiting = self._poll(now)
        self._trouble.end()
        return waiting

    def _poll(self, now: float) -> bool:
        try:
            found = scan(self._folder.path, self._rules.limits)
        except OSError as error:
            self._trouble.enter("watch_folder_not_usable", str(error.strerror))
            self.prepare()
            return False
        present = {d.name: d.signature for d in found}
        self._done = {name: signature for name, signature in self._done.items() if present.get(name) == signature}
        self._incomplete = {name: signature for name, signature in self._incomplete.items() if present.get(name) == signature}
        self._failures = {name: count for name, count in self._failures.items() if name in present}
        drops = [d for d in found if d.name not in self._done]
        settled = self._tracker.observe(now, {d.name: Observation(d.signature, self._patience(d)) for d in drops})
        plan = group(drops, settled, lambda name: self._tracker.still_for(name, now), self._settle_s + LOOSE_PATIENCE_S)
        for one in plan.groups:
            self._take(one, now)
            self._reject_refused()
        return plan.waiting

    def _patience(self, drop: Drop) -> float:
        if drop.name in self._incomplete:
            return max(self._incomplete_s, self._settle_s)
        return max(UNFINISHED_SETTLE_S, self._settle_s) if drop.unfinished else self._settle_s

    def _take(self, group: Group, now: float) -> None:
        try:
            if self._free(self._received_dir) - sum(self._most_bytes(d) for d in group) < self._reserve:
                self._trouble.enter("disk_nearly_full", "drops stay where they are until there is room")
                self._not_before = now + RETRY_S
                return
            final = any(d.name in self._incomplete for d in group)
            self._finish(group, take(group, self._open_arrival, self._rules, final=final))
        except DropChanged:
            self._try_again(group, now)
        except DropIncomplete as incomplete:
            self._wait_or_reject(group, incomplete, now)
        except DropRejected as rejected:
            self._reject_group(group, rejected, now)
        except OSError as error:
            # the spool's trouble, not the drop's: it stays where it is
            self._trouble.enter("spool_not_writable", str(error.strerror))
            self._not_before = now + RETRY_S
        except Exception as error:
            # a defect of ours: the drop must neither be lost nor be tried for ever
            frame = traceback.extract_tb(error.__traceback__)[-1]
            log.error("drop_failed", error=type(error).__name__, where=f"{Path(frame.filename).name}:{frame.lineno}")
            self._reject_group(group, DropRejected(f"It could not be processed ({type(error).__name__}); see the log."), now)

    def _wait_or_reject(self, group: Group, incomplete: DropIncomplete, now: float) -> None:
        """The first time: be patient, since an upload may pause. What still lacks its end then will not get one."""
        if any(d.name in self._incomplete for d in group):
            self._reject_group(group, incomplete, now)
            return
        for drop in (d for d in group if not is_recipients(d.name) and incomplete.only in {None, d.name}):
            self._incomplete[drop.name] = drop.signature
            log.info("drop_incomplete", folder=str(self._folder.path), drop=drop_id(drop.name), waits_s=self._incomplete_s)

    def _try_again(self, group: Group, now: float) -> None:
        for drop in group:
            self._tracker.restart(drop.name, now)
            self._failures[drop.name] = self._failures.get(drop.name, 0) + 1
        if all(self._failures[d.name] < MOST_ATTEMPTS for d in group):
            return
        if len(group) == 1:
            self._refused.append(_Refused(group[0], "It could not be read, or changed again and again while it was read."))
            return
        for drop in group:  # one by one: the others must not suffer for the one that cannot be read
            self._take([drop], now)

    def _reject_group(self, group: Group, rejected: DropRejected, now: float) -> None:
        if len(group) == 1:
            self._refused.append(_Refused(group[0], rejected.reason, rejected.left_out))
            return
        for drop in group:  # one by one, so that each is judged for itself
            self._take([drop], now)

    def _finish(self, group: Group, taken: TakenDrop) -> None:
        log.info(
            "drop_taken",
            folder=str(self._folder.path),
            drops=[drop_id(d.name) for d in group][:MOST_LOGGED],
            arrivals=taken.arrivals,
            instances=taken.instances,
            duplicates=taken.duplicates,
            aligned=taken.aligned,
            left_out=len(taken.left_out),
        )
        unused = {item.name: item for item in taken.left_out}
        about = {d.name for d in group if is_recipients(d.name)}
        alone = len(group) == len(about) + 1
        for drop in group:
            if drop.name in about:
                left_out = tuple(item for item in taken.left_out if item.name == drop.name)
            elif alone:
                left_out = tuple(item for item in taken.left_out if item.name not in about)
            elif drop.name in unused:
                self._refused.append(_Refused(drop, unused[drop.name].reason))
                continue
            else:
                left_out = ()
            self._put_away(drop, PROCESSED, "These files were left out; the rest was taken.", left_out)

    def _reject_refused(self) -> None:
        """Report what was refused of a group, as one: a copied CD has many files beside its images, and one person dropped them."""
        if not self._refused:
            return
        refused, self._refused = sorted(self._refused, key=lambda r: r.drop.name), []
        first = refused[0].drop
        reason = _reason_of(refused)
        try:
            self._on_rejected(RejectedDrop(self._folder.path, drop_id(first.name), occurrence_of(first), reason, self._clock()))
        except Exception as error:
            self._trouble.enter("rejection_not_recorded", type(error).__name__)
            return
        drops = [drop_id(r.drop.name) for r in refused][:MOST_LOGGED]
        log.warning("drop_rejected", folder=str(self._folder.path), drops=drops, reason=reason)
        # the one that stands for all goes last: what a crash leaves behind is then reported as the same
        for item in reversed(refused):
            self._put_away(item.drop, REJECTED, item.reason, item.left_out)

    def _put_away(self, drop: Drop, where: str, reason: str, left_out: Sequence[LeftOut]) -> None:
        note = describe(reason, left_out) if left_out or where == REJECTED else None
        try:
            put_away(drop.path, self._folder.path / where, note, self._clock())
        except FileNotFoundError:
            return  # somebody took it away meanwhile
        except OSError as error:
            self._done[drop.name] = drop.signature
            log.error(
                "drop_not_moved",
                folder=str(self._folder.path),
                drop=drop_id(drop.name),
                to=where,
                error=str(error.strerror),
                remedy=_remedy(error),
            )

    def _most_bytes(self, drop: Drop) -> int:
        """Bytes that the spool may need for a drop: files that are too large to be taken do not count."""
        limits = self._rules.limits
        if not drop.is_folder and drop.name.lower().endswith(".zip"):
            unpacked = sum(unpacked_bytes(e) for e in drop.entries)
            return unpacked if unpacked <= limits.archive.total_bytes else 0
        return sum(e.size for e in drop.entries if e.size <= limits.instance_bytes)

    def _open_arrival(self, recipients: Sequence[str]) -> ArrivalWriter:
        email = dict.fromkeys([*self._folder.email, *recipients])
        return ArrivalWriter.open(self._received_dir, ArrivalSource.FOLDER, email=list(email), clock=self._clock)


@dataclass(frozen=True, slots=True)
class _Refused:
    drop: Drop
    reason: str
    left_out: Sequence[LeftOut] = ()


def _reason_of(refused: Sequence[_Refused]) -> str:
    reasons = {r.reason for r in refused}
    if len(refused) == 1:
        return refused[0].reason
    if len(reasons) == 1:
        return f"{len(refused)} files could not be taken. {reasons.pop()}"
    return f"{len(refused)} files could not be taken; the reason of each lies beside it in the folder of rejected files."


def _remedy(error: OSError) -> str:
    """What to do where a drop cannot be moved."""
    by_hand = "move it away by hand; it is not taken again unless it changes or the program restarts"
    return f"{by_hand}. {PERMISSIONS_REMEDY}" if isinstance(error, PermissionError) else by_hand
