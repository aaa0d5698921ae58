"""Overlay slices: axial slices of the aligned head with the core map, one per picture, to scroll through in a viewer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from corewatch.findings import Finding
from outputs import wording
from outputs.case import ReportedCase
from outputs.pages.axial_slices import MAP_VISIBLE_FROM, RgbArray, level_mm, map_is_shown, render
from outputs.pages.canvas import MUTED, Canvas

SIZE: Final = 512
SCALE: Final = 2.5
"""Pixels per mm."""

_LABEL_HEIGHT = 24
_TOP = 27


@dataclass(frozen=True, slots=True, eq=False)
class OverlaySlice:
    """The picture of axial slice `k`: `pixels` uint8, shape (512, 512, 3), RGB."""

    k: int
    pixels: RgbArray


def slice_indices(step_mm: int = 5, first: int = 8, last: int = 128) -> range:
    """Indices of the axial slices that are drawn, from inferior to superior, every `step_mm` mm."""
    return range(first, last + 1, step_mm)


def render_overlays(
    case: ReportedCase, hu: NDArray[np.uint8], core_map: NDArray[np.uint8], indices: range | None = None
) -> Iterator[OverlaySlice]:
    """Draw the overlay slices of an analysed case, from inferior to superior.

    `hu` and `core_map` are uint8, shape (146, 182, 133), L-A-S; HU 0-100 and map 0-100.

    Raises
    ------
    ValueError
        If the case has no finding.
    """
    finding = case.result.finding
    if finding is None:
        raise ValueError("a case without a finding has no overlay slices")
    for k in slice_indices() if indices is None else indices:
        yield OverlaySlice(k, _draw(case, finding, hu, core_map, k))


def _draw(case: ReportedCase, finding: Finding, hu: NDArray[np.uint8], core_map: NDArray[np.uint8], k: int) -> RgbArray:
    page = Canvas.blank(SIZE, SIZE)
    picture = render(hu, core_map if map_is_shown(finding) else None, k, SCALE)
    height, width = picture.shape[:2]
    left = (SIZE - width) // 2
    page.paste(picture, left, _TOP)
    page.letters(left - 40, _TOP, width + 80, height, 24)
    page.text(8, 13, f"z {level_mm(k):+.0f} mm", 18, anchor="lm")
    page.text(SIZE - 8, 13, wording.headline(case), 18, anchor="rm", bold=True, width=380)
    page.text(8, SIZE - _LABEL_HEIGHT - 8, case.case_id, 13, fill=MUTED, anchor="ld")
    if map_is_shown(finding):
        page.text(8, _TOP + 6, f"map {MAP_VISIBLE_FROM}-100 %", 13, fill=MUTED)
        page.map_bar(8, _TOP + 26, 60, 12)
    page.research_label(SIZE - _LABEL_HEIGHT, _LABEL_HEIGHT, 16)
    return page.pixels()
