"""Quality score of an alignment: ten figures, each with the range in which good heads lie, and their product."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from conversion.alignment.cavity import Cavity
from conversion.alignment.isotropic import BlockMeans
from conversion.alignment.surface import SurfaceFit
from conversion.alignment.symmetry import SymmetryPlane
from conversion.alignment.template import STEP_MM, Template
from corewatch.errors import NotAnalysed
from corewatch.geometry import Matrix, apply
from corewatch.reasons import Reason
from corewatch.volumes import AlignmentQuality

MINIMUM_SCORE: Final = 0.5
"""Lowest score of a head that is analysed."""


SCALE_PARTS: Final = ("scale_r", "scale_a", "scale_s")
"""Names in `AlignmentQuality.parts` of the head's size over the template's along R, A and S."""

_NO_HEAD: Final = 0.2
"""Component score below which a figure speaks against a head rather than against its pose."""


@dataclass(frozen=True, slots=True)
class _Range:
    """Component score: 1 at `good` and beyond, 0 at `bad` and beyond, linear between."""

    bad: float
    good: float

    def __call__(self, value: float) -> float:
        return float(np.clip((value - self.bad) / (self.good - self.bad), 0, 1))


@dataclass(frozen=True, slots=True)
class _Between:
    """As `_Range`, with a bad value at either end."""

    low: _Range
    high: _Range

    def __call__(self, value: float) -> float:
        return min(self.low(value), self.high(value))


_RANGES: Final[dict[str, Callable[[float], float]]] = {
    "correlation": _Range(0.2, 0.36),
    "coverage": _Range(0.55, 0.9),
    "enclosed": _Range(0.25, 0.6),
    "inliers": _Range(0.4, 0.75),
    "residual_mm": _Range(3.6, 2.6),
    "scale": _Between(_Range(0.78, 0.83), _Range(1.16, 1.12)),
    "shape": _Range(1.36, 1.24),
    "soft": _Range(0.5, 0.85),
    "symmetry": _Range(0.2, 0.6),
    "turned_degrees": _Range(70.0, 50.0),
}


def brain_figures(blocks: BlockMeans, pose: Matrix, log_scales: NDArray[np.float64], template: Template) -> dict[str, float]:
    """Figures of the voxels in the template's brain: share inside the stack, share of soft tissue, median HU."""
    inside = np.argwhere(template.distance_mm[::2, ::2, ::2] < -4.0) * 2 * STEP_MM + template.origin_mm
    here = (inside - template.centre_mm) * np.exp(log_scales) + template.centre_mm
    index = apply(np.linalg.inv(blocks.to_ras) @ np.linalg.inv(pose), here)
    seen = ((index > -0.5) & (index < np.array(blocks.hu.shape) - 0.5)).all(axis=1)
    values = map_coordinates(blocks.hu, index[seen].T, order=1, mode="nearest")
    soft = (values > -20) & (values < 110)
    return {
        "coverage": float(seen.mean()),
        "soft": float(soft.mean()) if seen.any() else 0.0,
        "brain_hu": float(np.median(values)) if seen.any() else 0.0,
    }


def score_alignment(
    cavity: Cavity, fit: SurfaceFit, plane: SymmetryPlane, left: SymmetryPlane, figures: dict[str, float]
) -> AlignmentQuality:
    """Score an alignment: the product of the component scores, so that one bad figure is enough to refuse."""
    parts = {
        **figures,
        "enclosed": cavity.enclosed,
        "inliers": fit.inliers,
        "residual_mm": fit.residual_mm,
        "symmetry": plane.correlation,
        "turned_degrees": fit.turned_degrees,
        "cavity_ml": cavity.volume_ml,
        "scale": float(np.exp(fit.log_scales.mean())),
        "shape": float(np.exp(np.ptp(fit.log_scales))),
        **dict(zip(SCALE_PARTS, np.exp(fit.log_scales).tolist(), strict=True)),
    }
    score = float(np.prod([rate(parts[name]) for name, rate in _RANGES.items()]))
    rounded = {name: round(value, 4) for name, value in parts.items()}
    return AlignmentQuality(round(score, 4), round(abs(left.offset_mm), 3), round(left.degrees, 3), rounded)


def component_scores(quality: AlignmentQuality) -> dict[str, float]:
    """Component score of each figure, 0 to 1; the score is their product."""
    return {name: rate(quality.parts[name]) for name, rate in _RANGES.items() if name in quality.parts}


def check_quality(quality: AlignmentQuality, minimum: float = MINIMUM_SCORE) -> None:
    """Raise `NotAnalysed` where an alignment must not be trusted, with the first cause that explains it.

    Raises
    ------
    NotAnalysed
        `TOO_LITTLE_COVERAGE`, `NOT_A_HEAD` or `ALIGNMENT_NOT_TRUSTED`.
    """
    if quality.score >= minimum:
        return
    rates = dict.fromkeys(_RANGES, 1.0) | component_scores(quality)
    shape = min(rates["enclosed"], rates["soft"], rates["inliers"])
    inside = max(rates["correlation"], rates["turned_degrees"])
    if shape < _NO_HEAD or inside < _NO_HEAD:
        raise NotAnalysed(Reason.NOT_A_HEAD, "The images do not show a head: no brain inside a skull was found.")
    if rates["coverage"] < 1 and rates["coverage"] == min(rates.values()):
        share = 100 * quality.parts["coverage"]
        raise NotAnalysed(Reason.TOO_LITTLE_COVERAGE, f"Only {share:.0f} % of the brain lies within the slices.")
    if rates["turned_degrees"] < 0.5:
        raise NotAnalysed(
            Reason.ALIGNMENT_NOT_TRUSTED,
            f"The head lies turned by {quality.parts['turned_degrees']:.0f} degrees from upright: the patient position that was "
            "entered at the scanner is probably wrong.",
        )
    if min(rates["scale"], rates["shape"]) < 0.5:
        raise NotAnalysed(
            Reason.ALIGNMENT_NOT_TRUSTED,
            f"No head has these sizes: {_sizes(quality)} of the reference head's; the header's pixel spacing or slice "
            "positions are probably wrong.",
        )
    raise NotAnalysed(
        Reason.ALIGNMENT_NOT_TRUSTED,
        f"The head resembles the reference head too little (score {quality.score:.2f}, {minimum:.2f} is needed); check whether the "
        "whole head was scanned and the patient position is right.",
    )


def _sizes(quality: AlignmentQuality) -> str:
    names = zip(("wide", "long", "high"), SCALE_PARTS, strict=True)
    return ", ".join(f"{100 * quality.parts[part]:.0f} % as {word}" for word, part in names if part in quality.parts)
