"""Alignment pipeline: from the scanner's stack to the head on the network's grid."""

from __future__ import annotations

from typing import Final

import numpy as np
from threadpoolctl import threadpool_limits

from conversion.alignment.cavity import FINE_MM, find_cavity
from conversion.alignment.isotropic import block_means
from conversion.alignment.parenchyma import fit_parenchyma
from conversion.alignment.quality import brain_figures, score_alignment
from conversion.alignment.resample import to_network
from conversion.alignment.surface import fit_surface
from conversion.alignment.symmetry import MirrorImage, straighten
from conversion.alignment.template import load_template
from corewatch.errors import NotAnalysed
from corewatch.geometry import LPS_TO_RAS, NETWORK_TO_RAS
from corewatch.reasons import Reason
from corewatch.volumes import AlignedHead, ScannerVolume

_FEWEST_POINTS: Final = 300
_APPROACH: Final = ((4.0, 60.0), (4.0, 40.0), (2.0, 30.0), (2.0, 25.0), (0.0, 20.0), (0.0, 20.0), (0.0, 20.0))
_CHECK: Final = ((2.0, 30.0), (2.0, 20.0), (0.0, 20.0), (0.0, 20.0))


def align(volume: ScannerVolume, *, threads: int = 2) -> AlignedHead:
    """Align a head rigidly to the network's frame and resample it there.

    Parameters
    ----------
    volume
        The scanner's stack. Its `voxel_to_lps` must be right about where the patient's left, back and head are; heads turned and
        tilted up to about 55 degrees from upright are found.
    threads
        Threads to use. The result depends neither on it nor on the threads that BLAS is allowed.

    Returns
    -------
    The head on the network's grid with its matrix and quality. The quality is not judged here: see `check_quality`.

    Raises
    ------
    NotAnalysed
        `NOT_A_HEAD` where no brain-sized piece of soft tissue is enclosed by bone.
    """
    # BLAS rounds sums of products differently with each number of threads; the fits would end a few bits apart
    with threadpool_limits(limits=1, user_api="blas"):
        template = load_template()
        blocks = block_means(volume, FINE_MM, threads)
        cavity = find_cavity(blocks, threads)
        if cavity is None or len(cavity.inner_table_mm) < _FEWEST_POINTS:
            raise NotAnalysed(Reason.NOT_A_HEAD, "The images do not show a head: no brain inside a skull was found.")
        fit = fit_surface(cavity.inner_table_mm, cavity.centre_mm, template)
        plane = MirrorImage(blocks, fit.matrix, template, threads).plane(6.0, _APPROACH)
        inside = fit_parenchyma(blocks, straighten(fit.matrix, plane, template), fit.log_scales, template, threads)
        pose = inside.pose
        left = MirrorImage(blocks, pose, template, threads).plane(-6.0, _CHECK)
        figures = brain_figures(blocks, pose, fit.log_scales, template) | {"correlation": inside.correlation}
        quality = score_alignment(cavity, fit, plane, left, figures)
    lps_to_voxel = np.linalg.inv(NETWORK_TO_RAS) @ pose @ LPS_TO_RAS
    return AlignedHead(to_network(volume, lps_to_voxel, threads), lps_to_voxel, quality)
