"""The alignment page: overlays that show how the head was aligned, and a small panel for other pages.

The page shows what the score cannot: whether the template's edge follows the head and whether the midline halves it. It holds no
patient data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from corewatch.volumes import AlignmentQuality, Surface
from outputs.pages.axial_slices import RgbArray
from outputs.pages.canvas import BACKGROUND, CALM, CAUTION, MUTED, PANEL, TEXT, Canvas, Colour
from outputs.pages.orthogonal_slices import (
    LETTERS,
    AnatomicalPlane,
    OrthogonalSlice,
    as_uint8,
    draw_edge,
    draw_midline,
    grey_picture,
    picture_size,
    signed_distance_mm,
    tint_inside,
)

REGION: Final[Colour] = (70, 150, 230)
"""The brain region at the size of this head: blue."""
EDGE: Final[Colour] = (240, 140, 40)
"""The template's edge at the size of the template: orange, and dashed for readers without colour vision."""
MIDLINE: Final[Colour] = (255, 240, 170)

WIDTH: Final = 1480
_MARGIN = 10
_LABEL_HEIGHT = 46
_WORDS_HEIGHT = 340
_ROWS: Final = (
    (AnatomicalPlane.AXIAL, 2.0, (-25.0, -5.0, 15.0, 35.0, 55.0)),
    (AnatomicalPlane.CORONAL, 2.0, (40.0, 15.0, -15.0, -45.0, -75.0)),
    (AnatomicalPlane.SAGITTAL, 1.6, (45.0, 20.0, 0.0, -20.0, -45.0)),
)
"""Plane, pixels per mm, and the positions of its slices (RAS mm of the template)."""

_PARTS: Final = {
    "coverage": ("Brain that lies within the slices", "{:.0%}"),
    "enclosed": ("Brain's surface that bone encloses", "{:.0%}"),
    "soft": ("Brain's place that holds soft tissue", "{:.0%}"),
    "inliers": ("Inner skull within 4 mm of the region", "{:.0%}"),
    "residual_mm": ("Inner skull from the region, RMS", "{:.1f} mm"),
    "correlation": ("Brain's inside like the template's", "{:.2f}"),
    "symmetry": ("Head like its mirror image", "{:.2f}"),
    "turned_degrees": ("Turned from upright", "{:.0f}°"),
    "scale": ("Head's size over the template's", "{:.0%}"),
    "shape": ("Head's largest size over its smallest", "{:.2f}"),
}
"""The components of the score in words, in the order in which they are shown."""


@dataclass(frozen=True, slots=True, eq=False)
class AlignmentView:
    """What an alignment is drawn from.

    Attributes
    ----------
    hu
        Aligned head, uint8, shape (146, 182, 133), L-A-S, HU 0-100.
    template
        The edge of the template's brain.
    region
        The same at the size of the head; None where the input was already aligned.
    quality
        None where the input was already aligned.
    worth
        What each figure of `quality.parts` counts, 0 to 1, by name; figures that do not count are left out.
    minimum
        Lowest score of an alignment that is trusted.
    """

    hu: NDArray[np.uint8]
    template: Surface
    region: Surface | None = None
    quality: AlignmentQuality | None = None
    worth: Mapping[str, float] = field(default_factory=dict)
    minimum: float = 0.5

    @property
    def trusted(self) -> bool:
        """Whether the score is high enough; an input that was already aligned is trusted."""
        return self.quality is None or self.quality.score >= self.minimum


def render_alignment_page(case_id: str, view: AlignmentView, problem: str | None = None) -> Image.Image:
    """Draw the page: three planes with five slices each, the score and its components.

    Parameters
    ----------
    case_id
        Free of patient data.
    problem
        Why the case was not analysed, in words for people; None where it was.
    """
    heights = [picture_size(plane, scale)[1] for plane, scale, _ in _ROWS]
    words_top = 48 + sum(heights) + 8 * len(heights) + 8
    height = words_top + _WORDS_HEIGHT + _LABEL_HEIGHT
    page = Canvas.blank(WIDTH, height)
    page.text(_MARGIN, 24, "corewatch: alignment to the network's grid", 26, fill=MUTED, anchor="lm")
    page.text(WIDTH - _MARGIN, 24, f"case {case_id}", 26, fill=MUTED, anchor="rm")
    top = 48
    for (plane, scale, places), row_height in zip(_ROWS, heights, strict=True):
        width = picture_size(plane, scale)[0]
        for column, mm in enumerate(places):
            left = _MARGIN + column * ((WIDTH - 2 * _MARGIN - width) // (len(places) - 1))
            _slice(page, view, OrthogonalSlice.at(plane, mm), scale, left, top)
        top += row_height + 8
    _verdict(page, view, problem, words_top)
    _parts(page, view, 556, words_top)
    _legend(page, view, 1130, words_top)
    page.research_label(height - _LABEL_HEIGHT, _LABEL_HEIGHT, 30)
    return page.image


def alignment_panel(view: AlignmentView, width: int, mm: float = 15.0) -> Image.Image:
    """Draw a small picture for another page: an axial, a coronal and the midsagittal slice beside each other.

    Parameters
    ----------
    width
        Width of the picture in pixels; its height is 0.38 of that.
    mm
        Height of the axial slice: z of the template's RAS frame.
    """
    cuts = (
        OrthogonalSlice.at(AnatomicalPlane.AXIAL, mm),
        OrthogonalSlice.at(AnatomicalPlane.CORONAL, -15.0),
        OrthogonalSlice.at(AnatomicalPlane.SAGITTAL, 0.0),
    )
    scale = width / sum(picture_size(cut.plane, 1.0)[0] for cut in cuts)
    page = Canvas.blank(width, picture_size(AnatomicalPlane.AXIAL, scale)[1])
    left = 0
    for cut in cuts:
        pixels = _drawn(view, cut, scale, 1.4)
        page.paste(pixels, left, (page.image.height - pixels.shape[0]) // 2)
        left += pixels.shape[1]
    return page.image


def _drawn(view: AlignmentView, cut: OrthogonalSlice, scale: float, line: float) -> RgbArray:
    pixels = grey_picture(view.hu, cut, scale)
    shape = pixels.shape[0], pixels.shape[1]
    if view.region is not None:
        region = signed_distance_mm(view.region, cut, shape)
        tint_inside(pixels, region, REGION, 0.12)
        draw_edge(pixels, region, REGION, line)
    draw_edge(pixels, signed_distance_mm(view.template, cut, shape), EDGE, line, dash=round(6 * line))
    draw_midline(pixels, cut, MIDLINE, line * 0.7)
    return as_uint8(pixels)


def _slice(page: Canvas, view: AlignmentView, cut: OrthogonalSlice, scale: float, x: int, y: int) -> None:
    pixels = _drawn(view, cut, scale, 1.8)
    height, width = pixels.shape[:2]
    page.paste(pixels, x, y)
    page.draw.rectangle((x, y, x + width - 1, y + height - 1), outline=BACKGROUND, width=1)
    page.letters(x, y, width, height, 17, LETTERS[cut.plane])
    axis = {AnatomicalPlane.AXIAL: "z", AnatomicalPlane.CORONAL: "y", AnatomicalPlane.SAGITTAL: "x"}[cut.plane]
    page.text(x + 5, y + 4, f"{axis} {cut.mm:+.1f} mm".replace(".0 ", " "), 15, outline=2)


def _verdict(page: Canvas, view: AlignmentView, problem: str | None, y: int) -> None:
    width = 520
    quality = view.quality
    if quality is None:
        page.paragraph(_MARGIN, y, "The input was already aligned; its alignment was not checked.", 24, width)
        return
    words = "TRUSTED" if view.trusted else "NOT TRUSTED"
    page.text(
        _MARGIN, y, f"Score {quality.score:.2f} of 1: {words}", 36, bold=True, fill=TEXT if view.trusted else CAUTION, width=width
    )
    y += 52
    page.text(
        _MARGIN, y, f"At least {view.minimum:.2f} is needed. The score is the product of the bars.", 20, fill=MUTED, width=width
    )
    rest = f"The midline of the brain is {quality.midline_mm:.1f} mm and {quality.midline_degrees:.1f}° off the drawn plane."
    below = page.paragraph(_MARGIN, y + 36, rest, 22, width)
    if problem is not None:
        page.paragraph(_MARGIN, below + 8, f"Not analysed: {problem}", 20, width, fill=CAUTION)


def _parts(page: Canvas, view: AlignmentView, x: int, y: int) -> None:
    parts = {} if view.quality is None else view.quality.parts
    for name, (words, form) in _PARTS.items():
        if name not in parts:
            continue
        page.text(x, y, words, 19, width=340)
        page.text(x + 420, y, form.format(parts[name]), 19, anchor="ra")
        if name in view.worth:
            share = float(np.clip(view.worth[name], 0, 1))
            page.draw.rectangle((x + 434, y + 5, x + 434 + 110, y + 19), fill=PANEL)
            if share > 0:
                page.draw.rectangle((x + 434, y + 5, x + 434 + round(110 * share), y + 19), fill=CALM if share >= 0.5 else CAUTION)
            else:
                page.draw.line((x + 434, y + 5, x + 434, y + 19), fill=CAUTION, width=3)
        y += 28


def _legend(page: Canvas, view: AlignmentView, x: int, y: int) -> None:
    rows: list[tuple[Colour, bool, str]] = []
    if view.region is not None:
        rows.append((REGION, False, "brain region, at this head's size"))
    rows += [(EDGE, True, "template's edge, at its own size"), (MIDLINE, False, "midsagittal plane, x = 0")]
    for colour, broken, words in rows:
        for start in range(0, 40, 14) if broken else (0,):
            page.draw.line((x + start, y + 12, x + (start + 8 if broken else 40), y + 12), fill=colour, width=4)
        page.text(x + 52, y, words, 19, width=WIDTH - _MARGIN - x - 52)
        y += 30
    page.paragraph(x, y + 10, "CT window 0-100 HU. R and L are the patient's sides.", 18, WIDTH - _MARGIN - x, fill=MUTED)
