"""The score of an alignment: what each figure counts, that one bad figure is enough, and what a refusal says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from conversion.alignment.cavity import Cavity
from conversion.alignment.isotropic import BlockMeans
from conversion.alignment.quality import MINIMUM_SCORE, brain_figures, check_quality, component_scores, score_alignment
from conversion.alignment.surface import SurfaceFit
from conversion.alignment.symmetry import SymmetryPlane
from conversion.alignment.template import STEP_MM, Template, load_template
from corewatch.errors import NotAnalysed
from corewatch.reasons import Reason
from corewatch.volumes import AlignmentQuality

# docs/alignment.md, "The score": figure -> where it counts nothing, where it counts fully
TABLE = [
    ("correlation", 0.2, 0.36),
    ("coverage", 0.55, 0.9),
    ("enclosed", 0.25, 0.6),
    ("inliers", 0.4, 0.75),
    ("residual_mm", 3.6, 2.6),
    ("scale", 0.78, 0.83),
    ("scale", 1.16, 1.12),
    ("shape", 1.36, 1.24),
    ("soft", 0.5, 0.85),
    ("symmetry", 0.2, 0.6),
    ("turned_degrees", 70.0, 50.0),
]
GOOD = {
    "correlation": 0.5, "coverage": 1.0, "enclosed": 0.9, "inliers": 0.95, "residual_mm": 1.5, "scale": 0.95, "shape": 1.05,
    "soft": 0.95, "symmetry": 0.9, "turned_degrees": 5.0, "scale_r": 0.94, "scale_a": 0.95, "scale_s": 0.96,
}  # fmt: skip


def quality(**parts: float) -> AlignmentQuality:
    return AlignmentQuality(0.1, 0.2, 0.3, GOOD | parts)


@pytest.mark.parametrize(("figure", "bad", "good"), TABLE)
@pytest.mark.parametrize(
    ("share", "counts"), [(-0.5, 0.0), (0.0, 0.0), (0.25, 0.25), (0.5, 0.5), (0.75, 0.75), (1.0, 1.0), (1.2, 1.0)]
)
def test_what_a_figure_counts(figure: str, bad: float, good: float, share: float, counts: float) -> None:
    scores = component_scores(quality(**{figure: bad + share * (good - bad)}))
    assert scores[figure] == pytest.approx(counts, abs=1e-9)
    assert all(value == 1.0 for name, value in scores.items() if name != figure)
    assert scores.keys() == {name for name, _, _ in TABLE}


def test_only_figures_that_are_there_are_rated() -> None:
    assert component_scores(AlignmentQuality(1.0, 0.0, 0.0, {"soft": 0.9, "cavity_ml": 1200.0})) == {"soft": 1.0}


def scored(**changes: Any) -> AlignmentQuality:
    values = {
        "enclosed": 0.9, "inliers": 0.95, "residual_mm": 1.5, "symmetry": 0.9, "log_scales": np.log([0.9, 0.95, 1.0]),
        "turn": 10.0, "offset_mm": -0.12345, "roll": 3.0, "yaw": 4.0, "coverage": 1.0, "soft": 0.95, "correlation": 0.5,
    } | changes  # fmt: skip
    cavity = Cavity(np.zeros(3), 1234.56789, values["enclosed"], np.zeros((0, 3)))
    turn = Rotation.from_euler("x", values["turn"], degrees=True).as_matrix()
    fit = SurfaceFit(turn, np.zeros(3), values["log_scales"], values["residual_mm"], values["inliers"])
    figures = {name: values[name] for name in ("coverage", "soft", "correlation")}
    left = SymmetryPlane(values["offset_mm"], values["roll"], values["yaw"], 0.1)
    return score_alignment(cavity, fit, SymmetryPlane(9.0, 9.0, 9.0, values["symmetry"]), left, figures)


def test_figures_are_rounded_for_the_record() -> None:
    found = scored(symmetry=0.2 + 0.4 / 3, offset_mm=1.23456, roll=1.0, yaw=1.0, enclosed=0.87654321)
    assert (found.score, found.midline_mm, found.midline_degrees) == (0.3333, 1.235, 1.414)
    assert found.parts["enclosed"] == 0.8765


def test_a_good_head_has_the_full_score_and_every_figure_in_the_record() -> None:
    found = scored()
    assert (found.score, found.midline_mm, found.midline_degrees) == (1.0, 0.123, 5.0)
    assert found.parts == {
        "coverage": 1.0, "soft": 0.95, "correlation": 0.5, "enclosed": 0.9, "inliers": 0.95, "residual_mm": 1.5, "symmetry": 0.9,
        "turned_degrees": 10.0, "cavity_ml": 1234.5679, "scale": 0.9491, "shape": 1.1111,
        "scale_r": 0.9, "scale_a": 0.95, "scale_s": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "score"),
    [
        ({"symmetry": 0.4}, 0.5),
        ({"symmetry": 0.4, "soft": 0.675}, 0.25),
        ({"enclosed": 0.25}, 0.0),
        ({"turn": 60.0}, 0.5),
        ({"log_scales": np.log([0.805] * 3)}, 0.5),
        ({"log_scales": np.log([1.0, 1.0, 1.3])}, 0.5),
        ({"residual_mm": 3.1, "correlation": 0.28, "inliers": 0.575, "coverage": 0.725}, 0.0625),
    ],
)
def test_the_score_is_the_product_of_what_the_figures_count(changes: dict[str, Any], score: float) -> None:
    assert scored(**changes).score == pytest.approx(score, abs=1e-4)


@given(st.dictionaries(st.sampled_from([name for name, _, _ in TABLE]), st.floats(0, 100), max_size=4))
def test_one_bad_figure_is_enough(parts: dict[str, float]) -> None:
    scores = component_scores(quality(**parts))
    assert all(0.0 <= value <= 1.0 for value in scores.values())


@pytest.mark.parametrize(
    ("parts", "reason", "words"),
    [
        # a shape or an inside that no head has: not a head, whatever else is wrong
        ({"enclosed": 0.25}, Reason.NOT_A_HEAD, "no brain"),
        ({"enclosed": 0.25 + 0.35 * 0.19}, Reason.NOT_A_HEAD, "no brain"),
        ({"soft": 0.5}, Reason.NOT_A_HEAD, "no brain"),
        ({"inliers": 0.4}, Reason.NOT_A_HEAD, "no brain"),
        ({"correlation": 0.2, "turned_degrees": 80.0}, Reason.NOT_A_HEAD, "no brain"),
        ({"coverage": 0.55, "inliers": 0.4}, Reason.NOT_A_HEAD, "no brain"),
        ({"enclosed": 0.25 + 0.35 * 0.21}, Reason.ALIGNMENT_NOT_TRUSTED, "too little (score 0.10, 0.50 is needed)"),
        # either of the two alone may have another cause
        ({"correlation": 0.2}, Reason.ALIGNMENT_NOT_TRUSTED, "too little"),
        ({"turned_degrees": 80.0}, Reason.ALIGNMENT_NOT_TRUSTED, "turned by 80 degrees"),
        ({"coverage": 0.6}, Reason.TOO_LITTLE_COVERAGE, "Only 60 %"),
        ({"coverage": 0.89}, Reason.TOO_LITTLE_COVERAGE, "Only 89 %"),
        ({"coverage": 0.6, "symmetry": 0.2}, Reason.ALIGNMENT_NOT_TRUSTED, "too little"),
        ({"coverage": 0.6, "symmetry": 0.3}, Reason.TOO_LITTLE_COVERAGE, "Only 60 %"),
        ({"turned_degrees": 61.0}, Reason.ALIGNMENT_NOT_TRUSTED, "turned by 61 degrees"),
        ({"turned_degrees": 60.0}, Reason.ALIGNMENT_NOT_TRUSTED, "too little"),
        ({"turned_degrees": 61.0, "scale": 0.7}, Reason.ALIGNMENT_NOT_TRUSTED, "turned by 61 degrees"),
        ({"scale": 0.8}, Reason.ALIGNMENT_NOT_TRUSTED, "94 % as wide, 95 % as long, 96 % as high"),
        ({"scale": 0.81}, Reason.ALIGNMENT_NOT_TRUSTED, "too little"),
        ({"shape": 1.31}, Reason.ALIGNMENT_NOT_TRUSTED, "94 % as wide"),
        ({"shape": 1.3}, Reason.ALIGNMENT_NOT_TRUSTED, "too little"),
    ],
)
def test_a_refusal_names_the_first_cause_that_explains_it(parts: dict[str, float], reason: Reason, words: str) -> None:
    with pytest.raises(NotAnalysed) as caught:
        check_quality(quality(**parts))
    assert caught.value.reason is reason
    assert words in caught.value.detail


def test_a_figure_that_was_not_measured_explains_nothing() -> None:
    with pytest.raises(NotAnalysed, match="too little") as caught:
        check_quality(AlignmentQuality(0.4, 0.0, 0.0, {}))
    assert caught.value.reason is Reason.ALIGNMENT_NOT_TRUSTED
    with pytest.raises(NotAnalysed, match="sizes: 90 % as long of"):
        check_quality(AlignmentQuality(0.4, 0.0, 0.0, {"scale": 0.7, "scale_a": 0.9}))


def test_the_threshold_itself_is_accepted() -> None:
    assert MINIMUM_SCORE == 0.5
    check_quality(AlignmentQuality(0.5, 0.0, 0.0, {}))
    check_quality(AlignmentQuality(0.2, 0.0, 0.0, {}), 0.2)
    with pytest.raises(NotAnalysed):
        check_quality(AlignmentQuality(0.4999, 0.0, 0.0, {}))


# what lies where the template has its brain ---------------------------------------------------------------------------------------


def painted(template: Template, hu: float, *, top_mm: float = 200.0, log_scales: Any = (0.0, 0.0, 0.0)) -> dict[str, float]:
    """Figures of a stack that holds `hu` in the template's (scaled) brain and air around it, up to `top_mm`."""
    step = 4.0
    low = template.origin_mm - 30.0
    shape = tuple(int(n) for n in (np.array(template.distance_mm.shape) * STEP_MM + 60.0) / step)
    to_ras = np.diag([step, step, step, 1.0])
    to_ras[:3, 3] = low
    shape = (*shape[:2], min(shape[2], int((top_mm - low[2]) / step) + 1))
    points = np.moveaxis(np.indices(shape), 0, -1) * step + low
    unscaled = (points - template.centre_mm) / np.exp(log_scales) + template.centre_mm
    index = np.rint((unscaled - template.origin_mm) / STEP_MM).astype(int)
    inside = ((index >= 0) & (index < template.distance_mm.shape)).all(axis=-1)
    clipped = np.clip(index, 0, np.array(template.distance_mm.shape) - 1)
    brain = inside & (template.distance_mm[tuple(np.moveaxis(clipped, -1, 0))] < 2.0)
    blocks = BlockMeans(np.where(brain, hu, -200.0).astype(np.float32), to_ras)
    return brain_figures(blocks, np.eye(4), np.array(log_scales), template)


@pytest.mark.parametrize(("hu", "soft"), [(-20.0, 0.0), (-19.9, 1.0), (35.0, 1.0), (109.9, 1.0), (110.0, 0.0)])
def test_soft_tissue_where_the_brain_should_be(hu: float, soft: float) -> None:
    found = painted(load_template(), hu)
    assert found["coverage"] == 1.0
    assert found["soft"] == pytest.approx(soft, abs=0.06)
    assert found["brain_hu"] == pytest.approx(hu, abs=0.1)


def test_how_much_of_the_brain_lies_in_the_stack() -> None:
    template = load_template()
    whole = np.argwhere(template.distance_mm < -4.0) * STEP_MM + template.origin_mm
    for top_mm in (0.0, 30.0, 60.0):
        last = template.origin_mm[2] - 30.0 + 4.0 * int((top_mm - template.origin_mm[2] + 30.0) / 4.0)
        share = float((whole[:, 2] < last + 2.0).mean())  # half a slice beyond the centre of the last one
        assert painted(template, 35.0, top_mm=top_mm)["coverage"] == pytest.approx(share, abs=0.02)


def test_a_stack_beside_the_brain_shows_none_of_it() -> None:
    blocks = BlockMeans(np.full((4, 4, 4), 35.0, np.float32), np.diag([1.0, 1.0, 1.0, 1.0]) + np.pad([[900.0]], ((0, 3), (3, 0))))
    assert brain_figures(blocks, np.eye(4), np.zeros(3), load_template()) == {"coverage": 0.0, "soft": 0.0, "brain_hu": 0.0}


def test_a_smaller_head_is_looked_for_at_its_own_size() -> None:
    small = (-0.2, -0.2, -0.2)
    assert painted(load_template(), 35.0, log_scales=small)["soft"] == pytest.approx(1.0, abs=0.02)
