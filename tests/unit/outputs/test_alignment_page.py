"""Lines on the pictures lie where the surface and the midline lie, and the page says what the score is made of."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from conversion.alignment import check_quality
from corewatch import RESEARCH_LABEL
from corewatch.errors import NotAnalysed
from corewatch.geometry import NETWORK_SHAPE, NETWORK_TO_RAS, apply
from corewatch.volumes import AlignmentQuality, Surface
from outputs.pages import alignment_page
from outputs.pages.alignment_page import EDGE, MIDLINE, AlignmentView, alignment_panel, render_alignment_page
from outputs.pages.canvas import Canvas
from outputs.pages.orthogonal_slices import (
    AnatomicalPlane,
    OrthogonalSlice,
    as_uint8,
    draw_edge,
    draw_midline,
    grey_picture,
    picture_size,
    signed_distance_mm,
)

CENTRE = np.array([50.0, 100.0, 70.0])
RADIUS = 30.0
STEP = 2.0


@pytest.fixture(scope="module")
def ball() -> Surface:
    """A ball of 30 mm, away from the middle in all three axes, on a grid of 2 mm."""
    voxel = np.stack(np.indices([int(n / STEP) + 1 for n in NETWORK_SHAPE]), -1) * STEP
    depth = np.linalg.norm(voxel - CENTRE, axis=-1) - RADIUS
    return Surface(depth.astype(np.float32), np.diag([1 / STEP, 1 / STEP, 1 / STEP, 1.0]))


@pytest.fixture(scope="module")
def head() -> NDArray[np.uint8]:
    """The same ball as a head of 50 HU."""
    voxel = np.stack(np.indices(NETWORK_SHAPE), -1)
    return np.where(np.linalg.norm(voxel - CENTRE, axis=-1) < RADIUS, 50, 0).astype(np.uint8)


@pytest.mark.parametrize(
    ("plane", "index"), [(AnatomicalPlane.AXIAL, 62), (AnatomicalPlane.CORONAL, 110), (AnatomicalPlane.SAGITTAL, 41)]
)
@pytest.mark.parametrize("scale", [1.0, 1.6, 2.5])
def test_a_surface_lies_on_the_picture_where_it_lies_in_the_head(
    ball: Surface, head: NDArray[np.uint8], plane: AnatomicalPlane, index: int, scale: float
) -> None:
    cut = OrthogonalSlice(plane, index)
    grey = grey_picture(head, cut, scale)[:, :, 0]
    inside = signed_distance_mm(ball, cut, (grey.shape[0], grey.shape[1])) < 0
    shown = grey > 255 * 0.25
    assert shown.any()
    assert np.count_nonzero(shown ^ inside) < 0.04 * np.count_nonzero(shown)


def test_directions_of_the_pictures(head: NDArray[np.uint8]) -> None:
    marks = {"right": (20, 90, 60), "front": (72, 160, 60), "top": (72, 90, 120)}
    for name, (plane, index, side) in {
        "right": (AnatomicalPlane.AXIAL, 60, "left"),
        "front": (AnatomicalPlane.AXIAL, 60, "upper"),
        "top": (AnatomicalPlane.CORONAL, 90, "upper"),
    }.items():
        volume = np.zeros(NETWORK_SHAPE, np.uint8)
        volume[tuple(slice(n - 4, n + 5) for n in marks[name])] = 100
        grey = grey_picture(volume, OrthogonalSlice(plane, index), 1.0)[:, :, 0]
        row, column = np.array(np.nonzero(grey > 100)).mean(axis=1) / grey.shape
        assert (column if side == "left" else row) < 0.4, name
    volume = np.zeros(NETWORK_SHAPE, np.uint8)
    volume[68:77, 156:165, 116:125] = 100
    grey = grey_picture(volume, OrthogonalSlice(AnatomicalPlane.SAGITTAL, 72), 1.0)[:, :, 0]
    row, column = np.array(np.nonzero(grey > 100)).mean(axis=1) / grey.shape
    assert row < 0.4
    assert column < 0.4


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_the_midline_is_drawn_at_x_zero(scale: float) -> None:
    pixels = np.zeros((*picture_size(AnatomicalPlane.AXIAL, scale)[::-1], 3), np.float32)
    draw_midline(pixels, OrthogonalSlice(AnatomicalPlane.AXIAL, 60), MIDLINE, 1.0)
    drawn = pixels[:, :, 0].mean(axis=0)
    column = (drawn * np.arange(drawn.size)).sum() / drawn.sum()
    voxel = (column + 0.5) / scale - 0.5
    assert apply(NETWORK_TO_RAS, np.array([voxel, 0, 0]))[0] == pytest.approx(0, abs=0.05)
    untouched = np.zeros((*picture_size(AnatomicalPlane.SAGITTAL, scale)[::-1], 3), np.float32)
    draw_midline(untouched, OrthogonalSlice(AnatomicalPlane.SAGITTAL, 60), MIDLINE, 1.0)
    assert not untouched.any()


def test_an_edge_keeps_its_width_where_the_surface_lies_flat(ball: Surface) -> None:
    shape = picture_size(AnatomicalPlane.AXIAL, 2.0)[::-1]
    areas = []
    for k in (70, 96):  # through the middle, and near the pole
        pixels = np.zeros((*shape, 3), np.float32)
        draw_edge(pixels, signed_distance_mm(ball, OrthogonalSlice(AnatomicalPlane.AXIAL, k), shape), (255, 255, 255), 2.0)
        around = 2 * np.pi * np.sqrt(RADIUS**2 - (k - CENTRE[2]) ** 2) * 2.0
        areas.append(pixels[:, :, 0].sum() / 255 / around)
    assert areas == pytest.approx([2.0, 2.0], abs=0.7)


def test_a_cut_stays_on_the_grid() -> None:
    assert OrthogonalSlice.at(AnatomicalPlane.AXIAL, 500.0).index == NETWORK_SHAPE[2] - 1
    assert OrthogonalSlice.at(AnatomicalPlane.AXIAL, -500.0).index == 0
    for plane in AnatomicalPlane:
        assert abs(OrthogonalSlice.at(plane, 10.0).mm - 10.0) <= 0.5


def said(monkeypatch: pytest.MonkeyPatch, view: AlignmentView, problem: str | None = None) -> str:
    words: list[str] = []
    bottoms: list[float] = []
    write = Canvas.text

    def record(self: Canvas, x: float, y: float, text: str, size: int, **how: object) -> float:
        words.append(text)
        bottoms.append(y + (1.2 * size if "m" not in str(how.get("anchor", "la")) else 0.6 * size))
        right = write(self, x, y, text, size, **how)  # type: ignore[arg-type]  # passed on as they came
        assert "l" not in str(how.get("anchor", "la")) or right <= alignment_page.WIDTH, text
        return right

    monkeypatch.setattr(Canvas, "text", record)
    monkeypatch.setattr(Canvas, "research_label", lambda *_: words.append(RESEARCH_LABEL))
    page = render_alignment_page("case-1", view, problem)
    assert max(bottoms) <= page.height - 46, "words run into the research label"
    return " ".join(words)


QUALITY = AlignmentQuality(0.31, 0.42, 0.7, {"coverage": 0.61, "symmetry": 0.97, "residual_mm": 2.44, "brain_hu": 34.0})


def test_the_page_says_what_the_score_is_made_of(monkeypatch: pytest.MonkeyPatch, head: NDArray[np.uint8], ball: Surface) -> None:
    view = AlignmentView(head, ball, ball, QUALITY, {"coverage": 0.31, "symmetry": 1.0}, 0.5)
    words = said(monkeypatch, view, "Only 61 % of the brain lies within the slices.")
    for expected in (
        "case case-1",
        "Score 0.31 of 1: NOT TRUSTED",
        "0.50 is needed",
        "0.4 mm and 0.7°",
        "61%",
        "2.4 mm",
        "Not analysed: Only 61 % of the brain lies within the slices.",
        RESEARCH_LABEL,
    ):
        assert expected in words
    assert "34" not in words.replace("0.34", "")
    assert not view.trusted


def test_the_longest_reason_fits(monkeypatch: pytest.MonkeyPatch, head: NDArray[np.uint8], ball: Surface) -> None:
    with pytest.raises(NotAnalysed) as caught:
        check_quality(AlignmentQuality(0.4567, 1.234, 5.678, {"correlation": 0.3, "turned_degrees": 20.0}), 0.5)
    said(monkeypatch, AlignmentView(head, ball, ball, QUALITY, {}, 0.5), str(caught.value))


def test_a_head_that_came_aligned_has_no_score(monkeypatch: pytest.MonkeyPatch, head: NDArray[np.uint8], ball: Surface) -> None:
    words = said(monkeypatch, AlignmentView(head, ball))
    assert "was not checked" in words
    assert "Score" not in words


@pytest.mark.parametrize("width", [200, 401])
def test_the_panel_is_as_wide_as_asked(head: NDArray[np.uint8], ball: Surface, width: int) -> None:
    panel = alignment_panel(AlignmentView(head, ball, ball), width)
    assert panel.width == width
    assert panel.height == pytest.approx(0.38 * width, abs=2)
    colours = np.asarray(panel, int).reshape(-1, 3)
    assert (np.abs(colours - EDGE).sum(axis=1) < 60).any()


def test_pixels_stay_in_range(ball: Surface) -> None:
    pixels = np.full((*picture_size(AnatomicalPlane.CORONAL, 1.0)[::-1], 3), 300.0, np.float32)
    draw_edge(
        pixels,
        signed_distance_mm(ball, OrthogonalSlice(AnatomicalPlane.CORONAL, 100), (pixels.shape[0], pixels.shape[1])),
        EDGE,
        2.0,
        dash=6,
    )
    assert as_uint8(pixels).max() == 255
