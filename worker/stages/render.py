"""Stage `render`: pages, DICOM objects and `result.json` from the finding, or from the reason why there is none."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from config.delivery import ResultSeries
from conversion.alignment import MINIMUM_SCORE, brain_region, component_scores, template_edge
from conversion.nifti import read_aligned, read_core_map
from corewatch.casefolder import CaseFolder
from corewatch.result import Result
from corewatch.volumes import AlignmentQuality
from foundation.durable import GROUP, write_durably
from outputs.case import ReportedCase
from outputs.pages.alignment_page import AlignmentView, alignment_panel, render_alignment_page
from outputs.pages.summary_page import PANEL_WIDTH
from outputs.rendering import png, render_case


def render(case: ReportedCase, series: ResultSeries | None = None) -> ReportedCase:
    """Draw and encode all outputs; writes `summary.png`, `dicom/` and `result.json`. Idempotent.

    Parameters
    ----------
    series
        Number, description and manufacturer of the series of DICOM objects; None: the defaults of the settings.

    Returns
    -------
    The case with its files and the time of rendering.
    """
    started = time.perf_counter()
    folder = case.folder
    if case.result.finding is None:
        files = render_case(case, None, None, series)
    else:
        hu = read_aligned(folder.aligned).hu
        panel = alignment_panel(alignment_view(hu, case.result.quality), PANEL_WIDTH)
        files = render_case(case, hu, read_core_map(folder.core_map), series, panel)
    files |= {name: path.name for name, path in _volumes(folder).items() if path.exists()}
    files["result"] = folder.result.name
    timings = replace(case.result.timings, render=time.perf_counter() - started)
    rendered = replace(case, result=replace(case.result, files=files, timings=timings))
    write_result(rendered.result, folder)
    return rendered


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


def alignment_view(hu: NDArray[np.uint8], quality: AlignmentQuality | None, minimum_score: float | None = None) -> AlignmentView:
    """What an alignment is drawn from: the head, the template's edge, and how good the alignment is.

    Parameters
    ----------
    hu
        Aligned head, uint8, shape (146, 182, 133), network voxels (L-A-S), HU 0-100.
    quality
        None where the input was already aligned.
    minimum_score
        Score below which the head is not analysed; None: the threshold of the alignment itself.
    """
    minimum = MINIMUM_SCORE if minimum_score is None else minimum_score
    if quality is None:
        return AlignmentView(hu, template_edge(), minimum=minimum)
    return AlignmentView(hu, template_edge(), brain_region(quality), quality, component_scores(quality), minimum)


def write_alignment_page(folder: CaseFolder, case_id: str, view: AlignmentView, problem: str | None) -> None:
    """Write `qc.png`; `problem` says why the case was not analysed."""
    write_durably(folder.qc, png(render_alignment_page(case_id, view, problem)))
