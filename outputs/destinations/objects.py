"""The DICOM objects of a case, for whatever way they go to an archive."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from corewatch.errors import OperatorNeeded, RetryLater
from foundation.dicom_client.storage import StoreOutcome, StoreResult
from outputs.case import ReportedCase
from outputs.dicom.object_manifest import ObjectManifest


def why_not(case: ReportedCase, kinds: tuple[str, ...], *, not_analysed: bool) -> str | None:
    """None if an archive gets the case, else the reason to skip it.

    That is: what did not come as DICOM, what failed without a finding, what was not analysed unless `not_analysed` asks for it, and
    what has none of the `kinds` of objects that the archive is for.
    """
    if case.result.finding is None and (case.failed or not not_analysed):
        return "no finding: nothing for a PACS"
    if case.source_header is None:
        return "no DICOM source: there is no study that the result could join"
    manifest = ObjectManifest.read(case.folder.dicom)
    if manifest is not None and not any(kind in manifest.made for kind in kinds):
        return manifest.missing(kinds) or f"the result has no {', '.join(kinds)}"
    return None


def left_out(case: ReportedCase, kinds: tuple[str, ...]) -> str:
    """Which of the kinds could not be made for this case: `; no seg: ...`; empty where nothing is missing."""
    manifest = ObjectManifest.read(case.folder.dicom)
    missing = "" if manifest is None else manifest.missing(kinds)
    return f"; {missing}" if missing else ""


def objects_of(case: ReportedCase, kinds: tuple[str, ...]) -> tuple[Path, ...]:
    """Files of the kinds asked for: what their names in the case's `dicom/` begin with.

    Raises
    ------
    OperatorNeeded
        There are none.
    """
    paths = tuple(path for kind in kinds for path in sorted(case.folder.dicom.glob(f"{kind}-*.dcm")))
    if not paths:
        raise OperatorNeeded("the case's folder holds no DICOM objects of the kinds asked for", "start its render stage anew")
    return paths


def judge(outcomes: Sequence[StoreOutcome], who: str) -> None:
    """Raise where `who` has not stored them all; a lasting refusal outweighs a passing one: waiting would hide it.

    Raises
    ------
    RetryLater, OperatorNeeded
    """
    failed = [outcome for outcome in outcomes if outcome.result is StoreResult.FAILED]
    if not failed:
        return
    worst = next((outcome for outcome in failed if not outcome.temporary), failed[0])
    status = "no status" if worst.status is None else f"status 0x{worst.status:04X}"
    words = f"{who} refused {len(failed)} of {len(outcomes)} objects: {worst.meaning} ({status})"
    if worst.temporary:
        raise RetryLater(words, "look at its disk and load")
    raise OperatorNeeded(words, "look at its log and its rules for these kinds of objects, or take a kind out of `objects`")


def warnings(outcomes: Sequence[StoreOutcome]) -> str:
    """What an archive changed or left out, by status: `, 2 with warnings: ...`; empty where there is nothing to say."""
    warned = [outcome for outcome in outcomes if outcome.result is StoreResult.WARNING]
    if not warned:
        return ""
    kinds = {outcome.status: outcome.meaning for outcome in warned if outcome.status is not None}
    return f", {len(warned)} with warnings: " + "; ".join(f"{words} (0x{status:04X})" for status, words in sorted(kinds.items()))
