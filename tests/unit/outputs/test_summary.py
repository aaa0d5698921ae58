"""What the first page says, and that every word of it fits."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

import outputs.pages
from corewatch import RESEARCH_LABEL
from corewatch.cautions import Caution, CautionCode
from corewatch.findings import Finding, ModelIdentity, Side, decide_alert
from outputs.pages.axial_slices import CONTOUR
from outputs.pages.canvas import ALERT, CAUTION, wrapped
from outputs.pages.fonts import font
from outputs.pages.overlay_slices import render_overlays
from outputs.pages.summary_page import key_slice, render_not_analysed, render_summary, spread_slices
from tests.support.results import MODEL, PATIENT_ID, failed, finding, make_case, not_analysed, volumes, with_cautions

Box = tuple[float, float, float, float]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Box]]:
    """Every text that is drawn, with its bounding box."""
    words: list[tuple[str, Box]] = []
    draw_text = ImageDraw.ImageDraw.text

    def record(self: ImageDraw.ImageDraw, xy: Any, text: str, **how: Any) -> None:
        box = self.textbbox(xy, text, font=how["font"], anchor=how.get("anchor"), stroke_width=how.get("stroke_width", 0))
        words.append((text, box))
        draw_text(self, xy, text, **how)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", record)
    return words


TRAINED = dataclasses.replace(MODEL, name="stroke-net")
"""A model that saw patients."""


def texts(written: list[tuple[str, Box]]) -> str:
    return "\n".join(text for text, _ in written)


def test_summary_says_it_all(tmp_path: Path, written: list[tuple[str, Box]]) -> None:
    case = make_case(tmp_path, unstable=True, core_ml_interval=(18.2, 41.7), model=TRAINED, model_rmse_ml=10.5)
    page = render_summary(case, *volumes())
    assert page.size == (1024, 1024)
    assert page.mode == "RGB"
    said = texts(written)
    for words in (
        "34 mL",
        "placement range 18 to 42 mL",
        "model's own error 10.5 mL (RMS), not in the range",
        "patient's LEFT",
        "ALERT: core at or above 20 mL",
        "UNSTABLE: the placement range crosses 20 mL",
        "quality 0.93; midline off by 0.2 mm, 0.1°",
        "stroke-net 1.0 (01234567)",
        "2026-11-20 10:17:03 UTC+01:00",
        "2026-11-20 10:18:01 UTC+01:00   revision 1",
        "k3v9x2mqpt",
        "CT window 0-100 HU",
        "100 % of its maximum",
        RESEARCH_LABEL.upper(),
    ):
        assert words in said
    assert [text for text, _ in written].count("R") == 7
    assert PATIENT_ID not in said


def test_letters_stand_on_their_sides(tmp_path: Path, written: list[tuple[str, Box]]) -> None:
    """On every picture R is left of L, and A above P."""
    render_summary(make_case(tmp_path), *volumes())
    boxes = {letter: [box for text, box in written if text == letter] for letter in "RLAP"}
    for right, left, anterior, posterior in zip(*(boxes[letter] for letter in "RLAP"), strict=True):
        assert right[2] < left[0]
        assert anterior[3] < posterior[1]
        assert right[0] < anterior[0] < left[0]


def test_key_picture_shows_the_core_on_its_true_side(tmp_path: Path) -> None:
    """The map lies in the patient's left, so the outline is in the right half of the large picture, and the letter L beyond it."""
    page = np.asarray(render_summary(make_case(tmp_path), *volumes()))
    rows, columns = np.nonzero((page[262:761, 12:412] == np.array(CONTOUR)).all(axis=2))
    assert columns.min() > 200
    assert rows.max() < 250


def test_no_alert_looks_and_reads_different(tmp_path: Path, written: list[tuple[str, Box]]) -> None:
    alert = np.asarray(render_summary(make_case(tmp_path), *volumes()))
    written.clear()
    calm = np.asarray(render_summary(make_case(tmp_path, alert=False, core_ml=3.2, side=Side.NONE), *volumes()))
    assert (alert == np.array(ALERT)).all(axis=2).sum() > 20_000
    assert (calm == np.array(ALERT)).all(axis=2).sum() == 0
    said = texts(written)
    assert "No alert: core below 20 mL" in said
    assert "no clear side" in said
    assert "Core map not drawn" in said


def test_range_that_was_not_computed_is_said(tmp_path: Path, written: list[tuple[str, Box]]) -> None:
    render_summary(make_case(tmp_path, core_ml_interval=None), *volumes())
    assert "range not computed" in texts(written)


@pytest.mark.parametrize("make", [not_analysed, failed])
def test_page_without_a_finding_gives_the_reason(make: Any, tmp_path: Path, written: list[tuple[str, Box]]) -> None:
    case = make(make_case(tmp_path))
    page = render_not_analysed(case)
    said = texts(written).replace("\n", " ")
    assert page.size == (1024, 1024)
    assert case.problem
    assert case.problem in said
    assert "not a negative result" in said
    assert RESEARCH_LABEL.upper() in said
    assert all(box[0] >= 0 and box[2] <= 1024 for _, box in written)


def test_a_case_without_a_finding_has_no_summary(tmp_path: Path) -> None:
    case = not_analysed(make_case(tmp_path))
    with pytest.raises(ValueError, match="no summary"):
        render_summary(case, *volumes())
    with pytest.raises(ValueError, match="no overlay"):
        next(render_overlays(case, *volumes()))


def test_drawing_twice_gives_the_same_page(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    assert render_summary(case, *volumes()).tobytes() == render_summary(case, *volumes()).tobytes()


def test_the_research_label_is_burnt_into_every_picture(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    pages = [np.asarray(render_summary(case, *volumes())), next(render_overlays(case, *volumes())).pixels]
    pages.append(np.asarray(render_not_analysed(not_analysed(case))))
    for page in pages:
        band = page[-20:]
        assert (band == np.array(CAUTION)).all(axis=2).mean() > 0.5
        assert (band.max(axis=2) < 40).any()


@st.composite
def findings(draw: st.DrawFn) -> Finding:
    core = draw(st.floats(0, 999))
    span = draw(st.none() | st.tuples(st.floats(0, 1), st.floats(1, 2)))
    interval = None if span is None else (core * span[0], core * span[1])
    alert_ml = draw(st.sampled_from([0.5, 7.25, 20.0, 50.0, 123.75]))
    alert, unstable = decide_alert(core, interval, alert_ml)
    name = draw(st.text("abcdefghijklmnopqrstuvwxyz-W", min_size=1, max_size=80))
    side = draw(st.sampled_from(list(Side)))
    return finding(
        core_ml=core,
        core_ml_interval=interval,
        alert_ml=alert_ml,
        alert=alert,
        unstable=unstable,
        side=side,
        model=ModelIdentity(name, "1.0", MODEL.sha256),
    )


HU, CORE_MAP = volumes()


def overlap(one: Box, two: Box) -> bool:
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=findings())
def test_every_word_fits_and_none_covers_another(found: Finding, written: list[tuple[str, Box]]) -> None:
    written.clear()
    case = make_case(Path("unused"), dicom=False)
    render_summary(dataclasses.replace(case, result=dataclasses.replace(case.result, finding=found)), HU, CORE_MAP)
    for text, box in written:
        assert 0 <= box[0] < box[2] <= 1024, text
        assert 0 <= box[1] < box[3] <= 1024, text
    for number, (text, box) in enumerate(written):
        for other_text, other in written[number + 1 :]:
            assert not overlap(box, other), (text, other_text)


def test_key_slice_has_the_largest_outline() -> None:
    assert key_slice(CORE_MAP) == 75
    assert key_slice(np.zeros_like(CORE_MAP)) == 62
    assert list(spread_slices(CORE_MAP)) == sorted(spread_slices(CORE_MAP))


def test_fonts_scale_without_system_fonts() -> None:
    assert font(40).getlength("mL") == pytest.approx(2 * font(20).getlength("mL"), rel=0.1)
    assert Path(str(font(20).path)).is_relative_to(Path(outputs.pages.__file__).parent)
    assert font(30, bold=True).getlength("core") > font(30).getlength("core")


def test_wrapping_keeps_every_word() -> None:
    words = "The step between slices is 7.0 mm; at most 5.0 mm is allowed."
    lines = wrapped(words, 30, 300)
    assert " ".join(lines) == words
    assert all(font(30).getlength(line) <= 300 for line in lines)


def test_legible_at_half_size(tmp_path: Path) -> None:
    """Text of 22 pixels is the smallest that carries a fact; at half size it is 11, which DejaVu Sans stays readable at."""
    page = render_summary(make_case(tmp_path), *volumes())
    half = page.resize((512, 512), Image.Resampling.LANCZOS)
    facts = np.asarray(half.convert("L"))[425:480, 75:400]
    assert np.percentile(facts, 99) > 200
    assert np.percentile(facts, 50) < 40


def test_cautions_are_named_above_the_pictures(tmp_path: Path, written: list[tuple[str, Box]]) -> None:
    noisy, thick = Caution(CautionCode.NOISE, "SD 18 HU"), Caution(CautionCode.THICK_SLICES, "5 mm")
    render_summary(with_cautions(make_case(tmp_path, model=TRAINED), noisy, thick), *volumes())
    said = texts(written)
    assert "CAUTION  Noisy images: SD 18 HU" in said
    assert "CAUTION  Thick slices: 5 mm" in said
    assert "34 mL" in said
    lowest = max(box[3] for text, box in written if text.startswith("CAUTION"))
    assert all(box[1] > lowest for text, box in written if text in set("RLAP"))


def test_a_haemorrhage_is_the_headline(tmp_path: Path, written: list[tuple[str, Box]]) -> None:
    """The estimate does not hold, so its figure is small and named without value, and the headline has no verdict."""
    case = with_cautions(make_case(tmp_path, model=TRAINED), Caution(CautionCode.DENSE_REGION, "14 mL, patient's LEFT"))
    render_summary(case, *volumes())
    said = texts(written)
    assert "Dense region of 14 mL, patient's LEFT: haemorrhage?" in said
    assert "The core estimate does not hold." in said
    assert "Without value: 34 mL, patient's LEFT. ALERT: core at or above 20 mL." in said
    assert not [text for text, _ in written if text == "34 mL"]


def test_many_cautions_are_counted(tmp_path: Path, written: list[tuple[str, Box]]) -> None:
    codes = [code for code in CautionCode if Caution(code).estimate_holds]
    render_summary(with_cautions(make_case(tmp_path, model=TRAINED), *map(Caution, codes)), *volumes())
    assert f"{len(codes) - 3} more cautions in result.json" in texts(written)
    assert sum(text.startswith("CAUTION") for text, _ in written) == 4


def test_a_demonstration_model_has_a_banner_and_no_large_number(tmp_path: Path, written: list[tuple[str, Box]]) -> None:
    render_summary(make_case(tmp_path), *volumes())
    assert "DEMONSTRATION" in texts(written)
    assert max(box[3] - box[1] for text, box in written if "mL" in text) < 60
