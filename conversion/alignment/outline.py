"""Outline of the template's brain on the network's grid, for the alignment page."""

from __future__ import annotations

import numpy as np

from conversion.alignment.quality import SCALE_PARTS
from conversion.alignment.template import STEP_MM, load_template
from corewatch.geometry import NETWORK_TO_RAS
from corewatch.volumes import AlignmentQuality, Surface


def template_edge(scales: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Surface:
    """The hull of the template's brain.

    Parameters
    ----------
    scales
        Size of a head over the template's along R, A and S: the hull is that much larger, about the template's centre.
    """
    template = load_template()
    shrink = np.diag([*(1 / np.array(scales)), 1.0])
    shrink[:3, 3] = template.centre_mm * (1 - 1 / np.array(scales))
    to_index = np.diag([1 / STEP_MM] * 3 + [1.0])
    to_index[:3, 3] = -template.origin_mm / STEP_MM
    return Surface(template.distance_mm, np.asarray(to_index @ shrink @ NETWORK_TO_RAS, np.float64))


def brain_region(quality: AlignmentQuality) -> Surface | None:
    """The template's hull in the size of the aligned head: where its brain is taken to lie; None where no size is recorded."""
    if any(name not in quality.parts for name in SCALE_PARTS):
        return None
    right, anterior, superior = (quality.parts[name] for name in SCALE_PARTS)
    return template_edge((right, anterior, superior))
