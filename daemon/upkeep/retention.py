"""Retention: removes files after the configured days, and earlier when the disk is nearly full. A pure plan, and its executor.

A case's folder is removed after its days. An arrival holds instances of many cases (a whole study is received over one
association), so it is removed after the days of every case that uses it. When the disk is nearly full, cases are removed earlier,
oldest first: delivered, superseded and not analysed ones, never one that has not ended and never one that waits for an operator.
The ledger's rows stay, except requests for storage commitment; of the headers of a series without files only the UIDs stay.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

import structlog

from config.settings import RetentionSettings, Settings
from corewatch.states import ENDS, CaseState
from corewatch.units import GIB
from foundation.disk import FreeBytes, free_bytes
from foundation.durable import sync_folder
from foundation.outages import OutageTracker
from ledger.cases import Case
from ledger.store import Ledger

log = structlog.get_logger()


REMOVABLE_EARLY = frozenset({CaseState.DELIVERED, CaseState.SUPERSEDED, CaseState.NOT_ANALYSED})
"""States whose cases may be removed before their days are over."""


@dataclass(frozen=True, slots=True)
class Holding:
    """A case with files on the disk: its state, since when, and the arrivals that contain its instances."""

    case_id: str
    state: CaseState
    ended_at: datetime
    arrivals: frozenset[str]


@dataclass(frozen=True, slots=True)
class Removal:
    """Folders that are removed together: of cases, and of arrivals that no other case uses."""

    cases: tuple[str, ...]
    arrivals: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """What is removed.

    Attributes
    ----------
    due
        Its days are over.
    early
        Oldest first: removed one after another while the disk is nearly full.
    """

    due: Removal
    early: tuple[Removal, ...]


def plan_retention(
    holdings: Iterable[Holding], arrivals: Mapping[str, datetime], settings: RetentionSettings, now: datetime
) -> RetentionPlan:
    """Decide what is removed.

    Parameters
    ----------
    holdings
        Every case with files on the disk, in any state.
    arrivals
        Finished arrivals on the disk -> when they were received. Those that no case uses (repeated or unreadable instances) are
        removed after `failed_days`.
    """
    kept = _oldest_first(holdings)
    users = Counter(a for h in kept for a in h.arrivals)
    unused = [a for a, received_at in arrivals.items() if not users[a] and _over(received_at, settings.failed_days, now)]
    due = [h for h in kept if _is_due(h, settings, now)]
    freed = [a for h in due for a in _free(h, users, arrivals)]
    rest = [h for h in kept if h.state in REMOVABLE_EARLY and not _is_due(h, settings, now)]
    return RetentionPlan(
        due=Removal(tuple(h.case_id for h in due), tuple(sorted(unused + freed))),
        early=tuple(Removal((h.case_id,), tuple(_free(h, users, arrivals))) for h in rest),
    )


def _free(holding: Holding, users: Counter[str], arrivals: Mapping[str, datetime]) -> list[str]:
    """Arrivals that no case uses after this one is removed; removes the case from `users`."""
    users.subtract(holding.arrivals)
    return sorted(a for a in holding.arrivals if not users[a] and a in arrivals)


def _is_due(holding: Holding, settings: RetentionSettings, now: datetime) -> bool:
    if holding.state not in ENDS:
        return False
    kept_for_an_operator = holding.state in {CaseState.FAILED, CaseState.NOT_ANALYSED}
    return _over(holding.ended_at, settings.failed_days if kept_for_an_operator else settings.delivered_days, now)


def _over(since: datetime, days: float, now: datetime) -> bool:
    return now - since >= timedelta(days=days)


def _oldest_first(holdings: Iterable[Holding]) -> list[Holding]:
    return sorted(holdings, key=lambda h: (h.ended_at, h.case_id))


class Retention:
    """Executes the plan.

    Parameters
    ----------
    free
        Free space of the data folder's disk.
    """

    def __init__(self, ledger: Ledger, settings: Settings, free: FreeBytes = free_bytes) -> None:
        self._ledger = ledger
        self._settings = settings.retention
        self._data, self._received, self._cases = settings.data_dir, settings.received_dir, settings.cases_dir
        self._free_bytes = free
        self._full = OutageTracker()
        self._arrivals_of: dict[str, frozenset[str]] = {}  # of ended cases, which no longer change

    def step(self, now: datetime) -> None:
        """Remove what is due; then, while the disk is nearly full, what may be removed early."""
        # the audit trail keeps the answer; the row names every instance of a study
        self._ledger.commitment_requests_received.purge(now - timedelta(days=self._settings.failed_days))
        planned = plan_retention(self._holdings(), self._arrivals_on_disk(), self._settings, now)
        self._remove(planned.due)
        for removal in planned.early:
            if not self._too_full():
                break
            log.warning("case_removed_early", cases=removal.cases, why="the disk is nearly full")
            self._remove(removal)
        self._log_full(self._too_full())
        if cleared := self._ledger.header_retention.clear(lambda path: (self._received / path).exists()):
            log.info("headers_cleared", series=cleared)

    def _log_full(self, full: bool) -> None:
        """Log it once, and again only after there was room."""
        if full and self._full.failed():
            log.error("disk_full_nothing_removable", remedy="make room, or the listener will refuse images")
        elif not full and self._full.recovered():
            log.info("disk_has_room_again")

    def _too_full(self) -> bool:
        return self._free_bytes(self._data) < self._settings.free_gib * GIB

    def _holdings(self) -> list[Holding]:
        cases = [c for c in self._ledger.cases.find() if not c.files_removed]
        current = {c.case_id for c in cases}
        self._arrivals_of = {k: v for k, v in self._arrivals_of.items() if k in current}
        return [Holding(c.case_id, c.state, c.updated_at, self._arrivals(c)) for c in cases]

    def _arrivals(self, case: Case) -> frozenset[str]:
        known = self._arrivals_of.get(case.case_id)
        if known is None:
            paths = [case.aligned_path] if case.aligned_path is not None else self._ledger.cases.instance_paths(case)
            known = frozenset(PurePosixPath(p).parts[0] for p in paths)
            if case.state in ENDS:
                self._arrivals_of[case.case_id] = known
        return known

    def _arrivals_on_disk(self) -> dict[str, datetime]:
        if not self._received.is_dir():
            return {}
        finished = self._ledger.intake.finished_arrivals()
        found: dict[str, datetime] = {}
        for folder in self._received.iterdir():
            if folder.name in finished and folder.is_dir():
                found[folder.name] = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
        return found

    def _remove(self, removal: Removal) -> None:
        # the rows last: after a crash the plan contains what is not removed yet
        for case_id in removal.cases:
            _remove_folder(self._cases / case_id)
        for arrival_id in removal.arrivals:
            _remove_folder(self._received / arrival_id)
        for case_id in removal.cases:
            self._ledger.cases.mark_files_removed(case_id)
        if removal.cases or removal.arrivals:
            log.info("files_removed", cases=len(removal.cases), arrivals=len(removal.arrivals))


def _remove_folder(folder: Path) -> None:
    """Remove a folder with everything in it, if it exists."""
    if folder.is_dir():
        shutil.rmtree(folder)
        sync_folder(folder.parent)
