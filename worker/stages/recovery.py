"""Damaged or removed files of a case: the stage that makes them again, and received files that only their sender can replace.

A file that a stage has left may be damaged by the disk, or removed. That says nothing of the images: the case goes back to the
earliest stage whose inputs are whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import structlog

from conversion.nifti import read_aligned, read_core_map
from corewatch.casefolder import CaseFolder
from corewatch.errors import NotAnalysed, OperatorNeeded
from corewatch.states import ENDS, CaseState
from ledger.audit_trail import AuditLine
from ledger.cases import STEPPED_BACK, Case
from outputs.dicom.object_manifest import ObjectManifest
from outputs.source_header import read_header
from worker.context import WorkerContext
from worker.stages.case_files import FindingRecord, PreparedRecord

log = structlog.get_logger()

MOST_STEPS_BACK: Final = 2
"""Times that a case goes back by itself; a disk that damages files again and again is an operator's matter."""

DAMAGED_SUFFIX: Final = ".damaged"
"""Suffix of a received file that is not what was received: it counts as gone, so that the image replaces it when sent again."""

_ORDER: Final = (CaseState.QUEUED, CaseState.PREPARED, CaseState.DETECTED, CaseState.DELIVERING)


def earliest_whole_state(folder: CaseFolder) -> CaseState:
    """The latest state whose files, and those of all states before it, are whole; `queued` where nothing is."""
    whole = CaseState.QUEUED
    for state, files in (
        (CaseState.PREPARED, _prepared_files),
        (CaseState.DETECTED, _detected_files),
        (CaseState.DELIVERING, _rendered_files),
    ):
        if not all(_is_whole(one) for one in files(folder)):
            return whole
        whole = state
    return whole


def step_back(context: WorkerContext, case: Case, needs: CaseState) -> bool:
    """Move a case whose files are damaged to the stage that makes them again; False where they are whole.

    Parameters
    ----------
    needs
        State whose files the failed attempt needed.

    Raises
    ------
    OperatorNeeded
        It has gone back too often.
    """
    back = earliest_whole_state(context.folder(case.case_id))
    if _ORDER.index(back) >= _ORDER.index(needs):
        return False
    if steps_back(context.ledger.cases.history(case.case_id)) >= MOST_STEPS_BACK:
        raise OperatorNeeded(
            f"files in the folder of case {case.case_id} are damaged or removed again and again",
            "check the disk of data_dir and what else writes there, then `corewatch cases retry`",
        )
    why = "files in the case's folder are damaged or missing"
    moved = context.ledger.cases.step_back(case.case_id, case.state, back, why=why)
    if moved:
        log.error("case_stepped_back", case=case.case_id, before=str(case.state), after=str(back), why=why)
    return moved


def steps_back(history: Sequence[AuditLine]) -> int:
    """How often a case has gone back since it ended last."""
    ends = {f"case.{state}" for state in ENDS}
    last_end = max((number for number, line in enumerate(history) if line.event in ends), default=-1)
    return sum(line.event == STEPPED_BACK for line in history[last_end + 1 :])


def check_received(context: WorkerContext, case: Case) -> None:
    """Raise where received files of a case are missing or not what was received; damaged ones are put aside.

    Raises
    ------
    OperatorNeeded
        Only the sender can replace them.
    """
    received = context.ledger.cases.received_files(case)
    lost = 0
    for name, sha256 in received:
        path = context.settings.received_dir / name
        try:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == sha256:
                    continue
            path.rename(path.with_name(path.name + DAMAGED_SUFFIX))
        except FileNotFoundError:
            pass
        lost += 1
    if lost:
        raise OperatorNeeded(
            f"{lost} of {len(received)} received files of case {case.case_id} are missing or damaged on our disk",
            "check the disk of data_dir, and send the series again",
        )


def _prepared_files(folder: CaseFolder) -> list[Callable[[], Any]]:
    def header() -> Any:
        return PreparedRecord.read(folder).series_uid is None or read_header(folder.source_header)

    return [lambda: PreparedRecord.read(folder), header, lambda: read_aligned(folder.aligned)]


def _detected_files(folder: CaseFolder) -> list[Callable[[], Any]]:
    return [lambda: FindingRecord.read(folder), lambda: read_core_map(folder.core_map)]


def _rendered_files(folder: CaseFolder) -> list[Callable[[], Any]]:
    def objects() -> bool:
        manifest = ObjectManifest.read(folder.dicom)
        names = () if manifest is None else (name for made in manifest.made.values() for name in made)
        no_objects_wanted = not folder.source_header.exists()
        return no_objects_wanted if manifest is None else all(_has_content(folder.dicom / name) for name in names)

    return [lambda: json.loads(folder.result.read_bytes()), lambda: _has_content(folder.summary), objects]


def _has_content(path: Path) -> bool:
    return path.stat().st_size > 0


def _is_whole(read: Callable[[], Any]) -> bool:
    """Whether a file can be read; an error of the disk itself, which may pass, is no damage."""
    try:
        found = read()
    except (FileNotFoundError, NotADirectoryError, NotAnalysed, ValueError, KeyError, TypeError, AttributeError, EOFError):
        return False
    except OSError:
        return True
    return found is not None and found is not False
