"""Rigid alignment of a CTA head to the network's frame, and the way back."""

from __future__ import annotations

from conversion.alignment.align import align
from conversion.alignment.native import map_to_scanner
from conversion.alignment.outline import brain_region, template_edge
from conversion.alignment.quality import MINIMUM_SCORE, check_quality, component_scores

__all__ = ["MINIMUM_SCORE", "align", "brain_region", "check_quality", "component_scores", "map_to_scanner", "template_edge"]
