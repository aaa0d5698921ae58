"""All pages and DICOM objects of a case, made and written into its folder: the body of the stage `render`."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from config.delivery import ResultSeries
from foundation.durable import write_durably
from outputs import wording
from outputs.case import ReportedCase
from outputs.dicom.secondary_capture import Page
from outputs.dicom.writing import write_objects
from outputs.pages.axial_slices import level_mm
from outputs.pages.overlay_slices import SCALE, render_overlays
from outputs.pages.summary_page import render_not_analysed, render_summary


def render_case(
    case: ReportedCase,
    hu: NDArray[np.uint8] | None,
    core_map: NDArray[np.uint8] | None,
    series: ResultSeries | None = None,
    panel: Image.Image | None = None,
) -> dict[str, str]:
    """Write `summary.png` and, where the case has a DICOM source, the DICOM objects. Idempotent.

    Parameters
    ----------
    hu, core_map
        Aligned head (HU 0-100) and core map (0-100), both uint8, shape (146, 182, 133), L-A-S. Not needed for a case without a
        finding, whose only page says why.
    series
        Number, description and manufacturer of the series of DICOM objects; None: the defaults of the settings.
    panel
        Small picture of the alignment for the summary page, at most `outputs.pages.summary_page.PANEL_WIDTH` x 96 pixels.

    Returns
    -------
    For `Result.files`: name -> path relative to the case's folder.

    Raises
    ------
    ValueError
        If the case has a finding but no volumes were given.
    """
    if case.result.finding is None:
        summary = render_not_analysed(case)
    elif hu is None or core_map is None:
        raise ValueError("a case with a finding is drawn from its volumes")
    else:
        summary = render_summary(case, hu, core_map, panel)
    case.folder.path.mkdir(parents=True, exist_ok=True)
    write_durably(case.folder.summary, png(summary))
    files = {"summary": case.folder.summary.name}
    if case.source_header is not None:
        write_objects(case, _pages(case, summary, hu, core_map), core_map, series)
        files["dicom"] = case.folder.dicom.name
    return files


def png(image: Image.Image) -> bytes:
    """The picture as a PNG file. Pages do not get smaller above compression level 6."""
    buffer = BytesIO()
    image.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def _pages(
    case: ReportedCase, summary: Image.Image, hu: NDArray[np.uint8] | None, core_map: NDArray[np.uint8] | None
) -> Iterator[Page]:
    yield Page(np.asarray(summary, np.uint8), "summary", f"Summary: {wording.headline(case)}")
    if hu is None or core_map is None or case.result.finding is None:
        return
    for overlay in render_overlays(case, hu, core_map):
        comment = f"Core map on axial slice z {level_mm(overlay.k):+.0f} mm of the template"
        yield Page(overlay.pixels, f"overlay-{overlay.k}", comment, ("L", "P"), 1.0 / SCALE)
