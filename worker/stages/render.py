"""From the finding (or the reason why there is none) to pages, DICOM objects and `result.json`."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from conversion.nifti import read_aligned, read_core_map
from corewatch.casefolder import CaseFolder
from corewatch.result import Result
from foundation.durable import GROUP, write_durably
from outputs.case import ReportedCase
from outputs.dicom.object_kinds import SeriesNaming
from outputs.pages.alignment_page import alignment_panel
from outputs.pages.summary_page import PANEL_WIDTH
from outputs.rendering import render_case
from worker.stages.inspection import alignment_view


def render(case: ReportedCase, naming: SeriesNaming | None = None) -> ReportedCase:
    """Draw and encode everything; leaves `summary.png`, `dicom/` and `result.json`. Doing it again gives the same files.

    Parameters
    ----------
    naming
        How the series of DICOM objects stand in the study; None: as without settings.

    Returns
    -------
    The case with its files and the time of rendering filled in.
    """
    started = time.perf_counter()
    folder = case.folder
    if case.result.finding is None:
        files = render_case(case, None, None, naming)
    else:
        hu = read_aligned(folder.aligned).hu
        panel = alignment_panel(alignment_view(hu, case.result.quality), PANEL_WIDTH)
        files = render_case(case, hu, read_core_map(folder.core_map), naming, panel)
    files |= {name: path.name for name, path in _volumes(folder).items() if path.exists()}
    files["result"] = folder.result.name
    timings = replace(case.result.timings, render=time.perf_counter() - started)
    done = replace(case, result=replace(case.result, files=files, timings=timings))
    write_result(done.result, folder)
    return done


def write_result(result: Result, folder: CaseFolder) -> None:
    """Write `result.json` durably."""
    write_durably(folder.result, result.dumps().encode(), mode=GROUP)


def _volumes(folder: CaseFolder) -> dict[str, Path]:
    return {
        "aligned": folder.aligned,
        "aligned_sidecar": folder.aligned_sidecar,
        "core_map": folder.core_map,
        "core_map_native": folder.core_map_native,
        "qc": folder.qc,
    }
