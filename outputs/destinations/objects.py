"""The DICOM objects of a case, for whatever way they go to an archive."""

from __future__ import annotations

from pathlib import Path

from corewatch.errors import OperatorNeeded
from outputs.case import ReportedCase


def why_not(case: ReportedCase, *, not_analysed: bool) -> str | None:
    """None if an archive gets the case, else the reason to skip it.

    That is: what did not come as DICOM, what failed without a finding, and what was not analysed unless `not_analysed` asks for it.
    """
    if case.result.finding is None and (case.failed or not not_analysed):
        return "no finding: nothing for a PACS"
    if case.source_header is None:
        return "no DICOM source: there is no study that the result could join"
    return None


def objects_of(case: ReportedCase, kinds: tuple[str, ...]) -> tuple[Path, ...]:
    """Files of the kinds asked for: what their names in the case's `dicom/` begin with.

    Raises
    ------
    OperatorNeeded
        There are none.
    """
    paths = tuple(path for kind in kinds for path in sorted(case.folder.dicom.glob(f"{kind}-*.dcm")))
    if not paths:
        raise OperatorNeeded("the case's folder holds no DICOM objects of the kinds asked for; start its render stage anew")
    return paths
