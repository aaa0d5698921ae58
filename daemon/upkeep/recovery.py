"""What a crash may have left half done, put right when the daemon starts. Everything here may be done twice."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from corewatch.states import CaseState
from daemon.intake.admission import FILES_GONE, Admission
from foundation.durable import PARTIAL_SUFFIX, make_folders
from ledger.spool import ARRIVAL_FILE
from ledger.store import Ledger

log = structlog.get_logger()

LEFT_OVER_AFTER = timedelta(minutes=2)
"""Older than this, a partial file or an empty folder belongs to nobody. The listener may be at work while the daemon starts."""


def recover(ledger: Ledger, admission: Admission, received_dir: Path, now: datetime) -> None:
    """Bring spool and ledger into agreement."""
    make_folders(received_dir)
    clear_left_overs(received_dir, ledger.intake.finished_arrivals(), now)
    end_singles(ledger, admission, now)
    _fail_without_files(ledger, admission, received_dir)
    _supersede(ledger, admission)


def clear_left_overs(received_dir: Path, finished: frozenset[str], now: datetime) -> None:
    """Remove partial files, and folders that were made but never got a record: neither holds an acknowledged image."""
    for folder in received_dir.iterdir():
        if folder.name in finished or not folder.is_dir():
            continue
        for partial in folder.glob(f"*{PARTIAL_SUFFIX}"):
            if _age(partial, now) > LEFT_OVER_AFTER:
                partial.unlink(missing_ok=True)
                log.info("removed a file that was never wholly written", arrival=folder.name)
        if not (folder / ARRIVAL_FILE).exists() and _age(folder, now) > LEFT_OVER_AFTER and not any(folder.iterdir()):
            folder.rmdir()
            log.info("removed an empty arrival", arrival=folder.name)


def end_singles(ledger: Ledger, admission: Admission, before: datetime) -> None:
    """Move on the cases of aligned heads and unusable files that were opened before this moment and wait for nothing."""
    for case in ledger.cases.find(states=[CaseState.RECEIVING]):
        if case.series_uid is None and case.updated_at <= before:
            admission.end_single(case)


def _fail_without_files(ledger: Ledger, admission: Admission, received_dir: Path) -> None:
    """Queued cases whose images are gone. Those still being received are checked when they are complete."""
    queued = ledger.cases.find(states=[CaseState.QUEUED])
    if queued and not any(received_dir.iterdir()):
        # rather a disk that is not mounted than a loss of everything at once: the stage will find out
        log.error("the folder of received images is empty, but cases wait for theirs; is the data folder's disk mounted?")
        return
    for case in queued:
        if admission.missing_files(case):
            admission.fail(case, FILES_GONE)


def _supersede(ledger: Ledger, admission: Admission) -> None:
    """Series whose newest revision was decided about, but has not taken the place of earlier ones without a result."""
    alive = [s for s in CaseState if s not in {CaseState.SUPERSEDED, CaseState.RECEIVING}]
    revisions: dict[str, int] = defaultdict(int)
    for case in ledger.cases.find(states=alive):
        if case.series_uid is not None:
            revisions[case.series_uid] += 1
    for series_uid, count in revisions.items():
        if count > 1:
            admission.supersede(series_uid)


def _age(path: Path, now: datetime) -> timedelta:
    try:
        return now - datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:
        return timedelta(0)
