"""The summary page: volume, side and alert at the first glance, quality and limits at the second.

1024 x 1024 pixels, legible at half that size. It holds no patient data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from corewatch.cautions import ESTIMATE_DOES_NOT_HOLD, Caution, voiding
from corewatch.findings import CORE_MAP_THRESHOLD, Finding
from outputs import wording
from outputs.case import ReportedCase
from outputs.pages.axial_slices import MAP_VISIBLE_FROM, WINDOW_HU, core_areas, level_mm, map_is_shown, render
from outputs.pages.canvas import ALERT, BACKGROUND, CALM, CAUTION, MUTED, PANEL, TEXT, Canvas, Colour, wrapped

SIZE: Final = 1024
MARGIN: Final = 12

_KEY_WIDTH, _KEY_HEIGHT = 400, 499
_PICTURES_TOP = 262
_CAUTION_STEP: Final = 32
"""Height of a line that names a caution; the pictures are smaller by as much."""
_MOST_CAUTIONS: Final = 4
"""Most cautions that are named one by one."""
_LABEL_HEIGHT = 46
_ROW_STEP: Final = 30
_NARROW_ROW_STEP: Final = 25
"""Pixels from line to line of the facts; the narrow step makes room for a fifth line."""

PANEL_WIDTH: Final = 250
"""Largest width of the picture of the alignment, in pixels."""

_BRAIN = (28, 112)
"""First and last axial slice of the small pictures: skull base and vertex."""


def key_slice(core_map: NDArray[np.uint8]) -> int:
    """Index of the axial slice with the largest outlined area; the level of the basal ganglia where nothing is outlined."""
    areas = core_areas(core_map)
    return int(areas.argmax()) if areas.any() else 62


def spread_slices(core_map: NDArray[np.uint8], count: int = 6) -> tuple[int, ...]:
    """Indices of `count` axial slices, evenly spread over the brain from inferior to superior."""
    return tuple(int(k) for k in np.linspace(*_BRAIN, count).round())


def render_summary(
    case: ReportedCase, hu: NDArray[np.uint8], core_map: NDArray[np.uint8], panel: Image.Image | None = None
) -> Image.Image:
    """Draw the summary page of an analysed case.

    Parameters
    ----------
    case
        A case with a finding.
    hu
        Aligned head, uint8, shape (146, 182, 133), L-A-S, HU 0-100.
    core_map
        Core map on the same grid, uint8, 0-100.
    panel
        Small picture of the alignment, at most `PANEL_WIDTH` x 96 pixels, which is shown beside its figures.

    Raises
    ------
    ValueError
        If the case has no finding; see `render_not_analysed`.
    """
    finding = case.result.finding
    if finding is None:
        raise ValueError("a case without a finding has no summary page")
    page = Canvas.blank(SIZE, SIZE)
    _title(page, case)
    void = voiding(case.result.cautions)
    _verdict(page, finding, void)
    _answer(page, finding, void)
    top = _cautions(page, [one for one in case.result.cautions if one != void])
    _pictures(page, finding, hu, core_map, top)
    _legend(page, finding)
    _facts(page, case, finding, panel)
    if finding.model.demonstration:
        page.banner("DEMONSTRATION", "not trained on patients", _PICTURES_TOP + _KEY_HEIGHT / 2)
    page.research_label(SIZE - _LABEL_HEIGHT, _LABEL_HEIGHT, 30)
    return page.image


def render_not_analysed(case: ReportedCase) -> Image.Image:
    """Draw the only page of a case without a finding: what happened, why, what to do, and that it is no negative result."""
    page = Canvas.blank(SIZE, SIZE)
    _title(page, case)
    _band(page, 46, 84, "FAILED" if case.failed else "NOT ANALYSED", PANEL, CAUTION)
    size = _fitting(case.problem or "", SIZE - 2 * MARGIN - 16, 390)
    y = page.paragraph(MARGIN + 8, 190, case.problem or "", size, SIZE - 2 * MARGIN - 16, bold=True)
    if case.remedy is not None:
        y = page.paragraph(MARGIN + 8, y + 16, case.remedy, 34, SIZE - 2 * MARGIN - 16)
    y = page.paragraph(
        MARGIN + 8,
        y + 40,
        "This is not a negative result: the images were not analysed for ischemic core.",
        34,
        SIZE - 2 * MARGIN - 16,
    )
    page.paragraph(MARGIN + 8, y + 24, "Read the images without this analysis.", 34, SIZE - 2 * MARGIN - 16, fill=MUTED)
    _rows(
        page, 830, (("Received", wording.moment(case.received_at)), ("Decided", wording.moment(case.analysed_at))), MARGIN + 8, 900
    )
    _rows(page, 830 + 2 * _ROW_STEP, (("Case", f"{case.case_id}, revision {case.revision}"),), MARGIN + 8, 900)
    page.research_label(SIZE - _LABEL_HEIGHT, _LABEL_HEIGHT, 30)
    return page.image


def _fitting(words: str, width: float, height: float) -> int:
    """The largest font size in which a bold paragraph is no higher than `height` pixels."""
    sizes = (44, 38, 33, 28, 24)
    return next((size for size in sizes if len(wrapped(words, size, width, bold=True)) * round(size * 1.35) <= height), sizes[-1])


def _title(page: Canvas, case: ReportedCase) -> None:
    page.text(MARGIN, 22, "corewatch: ischemic core on CT angiography", 24, fill=MUTED, anchor="lm")
    revision = f"  rev. {case.revision}" if case.revision > 1 else ""
    page.text(SIZE - MARGIN, 22, f"case {case.case_id}{revision}", 24, fill=MUTED, anchor="rm")


def _band(
    page: Canvas, y: int, height: int, words: str, fill: Colour, ink: Colour, x0: int = MARGIN, x1: int = SIZE - MARGIN
) -> None:
    page.draw.rounded_rectangle((x0, y, x1, y + height), radius=10, fill=fill, outline=ink if fill == PANEL else fill, width=4)
    page.text((x0 + x1) / 2, y + height / 2, words, 46, bold=True, fill=ink, anchor="mm", width=x1 - x0 - 24)


def _verdict(page: Canvas, finding: Finding, void: Caution | None) -> None:
    if void is not None:
        _band(page, 42, 76, void.title, CAUTION, (0, 0, 0))
        return
    fill, ink = (ALERT, (0, 0, 0)) if finding.alert else (PANEL, CALM)
    instability = wording.instability(finding)
    if instability is None:
        _band(page, 42, 76, wording.verdict(finding), fill, ink)
    else:
        middle = SIZE // 2 + 30
        _band(page, 42, 76, wording.verdict(finding), fill, ink, x1=middle - 6)
        _band(page, 42, 76, instability, PANEL, CAUTION, x0=middle + 6)


def _answer(page: Canvas, finding: Finding, void: Caution | None) -> None:
    width = SIZE - 2 * MARGIN
    if void is not None:
        page.text(MARGIN, 152, f"{ESTIMATE_DOES_NOT_HOLD}.", 50, bold=True, anchor="lm", width=width)
        page.text(MARGIN, 196, void.remedy, 28, anchor="lm", width=width)
        words = f"Without value: {wording.volume(finding)}, {wording.side(finding)}. {wording.verdict(finding)}."
        page.text(MARGIN, 234, words, 24, anchor="lm", fill=MUTED, width=width)
        return
    if finding.model.demonstration:
        page.text(MARGIN, 160, "Demonstration model: no result of a patient.", 44, bold=True, anchor="lm", width=width)
        words = f"It gives {wording.volume(finding)}, {wording.side(finding)}; {wording.ranges(finding)}."
        page.text(MARGIN, 218, words, 28, anchor="lm", width=width)
        return
    right = page.text(MARGIN, 192, wording.volume(finding), 110, bold=True, anchor="lm", width=480)
    x = max(right + 36, 430)
    rest = SIZE - MARGIN - x
    span, error = wording.interval(finding), wording.own_error(finding)
    page.text(x, 152, wording.side(finding), 50, bold=True, anchor="lm", width=rest)
    line = "placement range not computed" if span is None else f"placement range {span}"
    page.text(x, 203, line, 34, anchor="lm", fill=TEXT if span else MUTED, width=rest)
    words = "model's own error not known" if error is None else f"model's own error {error} (RMS), not in the range"
    page.text(x, 238, words, 26, anchor="lm", fill=MUTED if error is None else TEXT, width=rest)


def _cautions(page: Canvas, cautions: Sequence[Caution]) -> int:
    """Name the cautions, each on a line of its own; returns the y at which the pictures begin."""
    titles = [one.title for one in cautions]
    if len(titles) > _MOST_CAUTIONS:
        titles = [*titles[: _MOST_CAUTIONS - 1], f"{len(titles) - _MOST_CAUTIONS + 1} more cautions in result.json"]
    for number, title in enumerate(titles):
        y = _PICTURES_TOP + number * _CAUTION_STEP
        page.draw.rectangle((MARGIN, y, MARGIN + 10, y + _CAUTION_STEP - 6), fill=CAUTION)
        page.text(MARGIN + 22, y + _CAUTION_STEP / 2 - 3, f"CAUTION  {title}", 26, bold=True, fill=CAUTION, anchor="lm", width=970)
    return _PICTURES_TOP + len(titles) * _CAUTION_STEP + (4 if titles else 0)


def _pictures(page: Canvas, finding: Finding, hu: NDArray[np.uint8], core_map: NDArray[np.uint8], top: int) -> None:
    shown = core_map if map_is_shown(finding) else None
    key = key_slice(core_map) if shown is not None else 62
    height = _PICTURES_TOP + _KEY_HEIGHT - top
    width = round(_KEY_WIDTH * height / _KEY_HEIGHT)
    _slice(page, hu, shown, key, MARGIN, top, width, height, 28)
    for number, k in enumerate(spread_slices(core_map)):
        x = MARGIN + width + (number % 3) * (width // 2)
        y = top + (number // 3) * (height // 2 + 1)
        _slice(page, hu, shown, k, x, y, width // 2, height // 2, 20)


def _slice(
    page: Canvas, hu: NDArray[np.uint8], shown: NDArray[np.uint8] | None, k: int, x: int, y: int, width: int, height: int, size: int
) -> None:
    picture = render(hu, shown, k, width / hu.shape[0])[:height]
    page.paste(picture, x, y)
    page.draw.rectangle((x, y, x + width - 1, y + height - 1), outline=BACKGROUND, width=2)
    page.letters(x, y, width, height, size)
    page.text(x + 6, y + 5, f"{level_mm(k):+.0f} mm", max(16, size - 6), fill=TEXT, outline=2)


def _legend(page: Canvas, finding: Finding) -> None:
    y = _PICTURES_TOP + _KEY_HEIGHT + 14
    if not map_is_shown(finding):
        words = "Core map not drawn: no alert and no clear side, so it would show noise only."
        page.text(MARGIN, y + 14, words, 22, anchor="lm", width=SIZE - 2 * MARGIN)
        return
    x = page.text(MARGIN, y + 12, f"Core map {MAP_VISIBLE_FROM}", 22, anchor="lm") + 10
    page.map_bar(round(x), y, 240, 24)
    page.text(x + 250, y + 12, "100 % of its maximum", 22, anchor="lm")
    page.text(SIZE - MARGIN, y + 12, f"CT window {WINDOW_HU[0]}-{WINDOW_HU[1]} HU", 22, anchor="rm")
    words = f"Outline: map above {CORE_MAP_THRESHOLD} %. It shows the place; the volume is estimated independently."
    page.text(MARGIN, y + 46, words, 22, fill=MUTED, anchor="lm", width=SIZE - 2 * MARGIN)


def _facts(page: Canvas, case: ReportedCase, finding: Finding, panel: Image.Image | None) -> None:
    y = _PICTURES_TOP + _KEY_HEIGHT + 88
    page.draw.line((MARGIN, y - 8, SIZE - MARGIN, y - 8), fill=PANEL, width=3)
    width = SIZE - 2 * MARGIN
    _rows(page, y, (("Model", wording.model_for_readers(finding.model)),), MARGIN, width)
    if panel is not None:
        page.image.paste(panel, (SIZE - MARGIN - panel.width, SIZE - _LABEL_HEIGHT - 4 - panel.height))
        width -= panel.width + MARGIN
    rows = [
        ("Alignment", wording.alignment(case.result.quality)),
        ("Received", wording.moment(case.received_at)),
        ("Analysed", f"{wording.moment(case.analysed_at)}   {wording.revision(case)}"),
    ]
    notes = wording.notes(case.result.notes)
    step = _ROW_STEP if notes is None else _NARROW_ROW_STEP
    _rows(page, y + step, rows if notes is None else [*rows, ("Note", notes)], MARGIN, width, step)


def _rows(page: Canvas, y: float, rows: Sequence[tuple[str, str]], x: float, width: float, step: float = _ROW_STEP) -> None:
    for name, value in rows:
        page.text(x, y, name, 22, fill=MUTED)
        page.text(x + 140, y, value, 22, width=width - 140)
        y += step
