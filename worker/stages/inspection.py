"""What people see of an alignment: its arrays brought together for the pages that `outputs` draws."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from conversion.alignment import MINIMUM_SCORE, brain_region, component_scores, template_edge
from corewatch.casefolder import CaseFolder
from corewatch.volumes import AlignmentQuality
from foundation.durable import write_durably
from outputs.pages.alignment_page import AlignmentView, render_alignment_page
from outputs.rendering import png


def alignment_view(hu: NDArray[np.uint8], quality: AlignmentQuality | None, minimum_score: float | None = None) -> AlignmentView:
    """All that an alignment is drawn from.

    Parameters
    ----------
    hu
        Aligned head, uint8, shape (146, 182, 133), L-A-S.
    quality
        None where the head came already aligned.
    minimum_score
        Score below which the head is not analysed; None: the threshold that comes with the alignment.
    """
    minimum = MINIMUM_SCORE if minimum_score is None else minimum_score
    if quality is None:
        return AlignmentView(hu, template_edge(), minimum=minimum)
    return AlignmentView(hu, template_edge(), brain_region(quality), quality, component_scores(quality), minimum)


def write_alignment_page(folder: CaseFolder, case_id: str, view: AlignmentView, problem: str | None) -> None:
    """Leave `qc.png` in the case's folder; `problem` says why the case was not analysed."""
    write_durably(folder.qc, png(render_alignment_page(case_id, view, problem)))
