"""Pages for people, drawn with Pillow: the summary page, the alignment page and the overlay slices.

Pictures of slices follow the radiological convention: the patient's right is on the left of an axial or coronal picture.
"""

from outputs.pages.alignment_page import AlignmentView, alignment_panel, render_alignment_page
from outputs.pages.overlay_slices import render_overlays
from outputs.pages.summary_page import PANEL_WIDTH, render_not_analysed, render_summary

__all__ = [
    "PANEL_WIDTH",
    "AlignmentView",
    "alignment_panel",
    "render_alignment_page",
    "render_not_analysed",
    "render_overlays",
    "render_summary",
]
