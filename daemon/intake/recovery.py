"""Crash recovery at the start of the daemon. Idempotent."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from corewatch.states import CaseState
from daemon.intake.triage import FILES_GONE, Triage
from foundation.durable import PARTIAL_SUFFIX, make_folders
from ledger.spool import ARRIVAL_FILE, LOCK_FILE, writer_is_gone
from ledger.store import Ledger

log = structlog.get_logger()

LEFT_OVER_AFTER = timedelta(minutes=2)
"""A partial file or an empty folder older than this is unused. A younger one may be the listener's, which may run already."""


def recover(ledger: Ledger, triage: Triage, received_dir: Path, now: datetime) -> None:
    """Make spool and ledger agree."""
    make_folders(received_dir)
    clear_left_overs(received_dir, ledger.intake.finished_arrivals(), now)
    triage_single_files(ledger, triage, now)
    _fail_without_files(ledger, triage, received_dir)
    _supersede(ledger, triage)


def clear_left_overs(received_dir: Path, finished: frozenset[str], now: datetime) -> None:
    """Remove partial files, and folders without a record: neither holds an acknowledged instance."""
    for folder in received_dir.iterdir():
        if folder.name in finished or not folder.is_dir():
            continue
        for partial in folder.glob(f"*{PARTIAL_SUFFIX}"):
            if _age(partial, now) > LEFT_OVER_AFTER:
                partial.unlink(missing_ok=True)
                log.info("partial_file_removed", arrival=folder.name)
        if writer_is_gone(folder) and not (folder / ARRIVAL_FILE).exists():
            (folder / LOCK_FILE).unlink(missing_ok=True)
        if not (folder / ARRIVAL_FILE).exists() and _age(folder, now) > LEFT_OVER_AFTER and not any(folder.iterdir()):
            folder.rmdir()
            log.info("empty_arrival_removed", arrival=folder.name)


def triage_single_files(ledger: Ledger, triage: Triage, before: datetime) -> None:
    """Triage the cases of aligned heads and unusable files that were opened before this moment."""
    for case in ledger.cases.find(states=[CaseState.RECEIVING]):
        if case.series_uid is None and case.updated_at <= before:
            triage.triage_single_file(case)


def _fail_without_files(ledger: Ledger, triage: Triage, received_dir: Path) -> None:
    """Fail queued cases whose files are gone. Series that are still being received are checked when they are complete."""
    queued = ledger.cases.find(states=[CaseState.QUEUED])
    if queued and not any(received_dir.iterdir()):
        # probably a disk that is not mounted, not a loss of everything at once: the stage will find out
        log.error("received_folder_empty", queued=len(queued), remedy="check whether the data folder's disk is mounted")
        return
    for case in queued:
        if triage.missing_files(case):
            triage.fail(case, FILES_GONE)


def _supersede(ledger: Ledger, triage: Triage) -> None:
    """Supersede earlier revisions without a result where the newest one is decided."""
    alive = [s for s in CaseState if s not in {CaseState.SUPERSEDED, CaseState.RECEIVING}]
    revisions: dict[str, int] = defaultdict(int)
    for case in ledger.cases.find(states=alive):
        if case.series_uid is not None:
            revisions[case.series_uid] += 1
    for series_uid, count in revisions.items():
        if count > 1:
            triage.supersede(series_uid)


def _age(path: Path, now: datetime) -> timedelta:
    try:
        return now - datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:
        return timedelta(0)
