"""What is measured in an aligned head before the network sees it, and what follows: a caution, a correction, a refusal, or nothing.

`LIMITS` holds every limit; docs/cautions.md says from which heads each comes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from corewatch.cautions import Caution, CautionCode
from corewatch.errors import NotAnalysed
from corewatch.findings import Side
from corewatch.reasons import Reason


@dataclass(frozen=True, slots=True)
class DenseRegion:
    """A compact region of the density of clotted blood: its volume in mL and the side that most of it lies on.

    `layer` is set where it lies along the inner table of the skull.
    """

    volume_ml: float
    side: Side
    layer: bool


@dataclass(frozen=True, slots=True)
class ImageMeasures:
    """Figures of one aligned head.

    Attributes
    ----------
    brain_hu
        Median of the brain in HU.
    csf_hu
        Mean of the 3 mL of lowest density in the middle of the brain, in HU: the ventricles. None where values below 0 HU were
        clipped, so that a shift cannot be measured.
    noise_hu
        Standard deviation of the noise on the network's grid, in HU.
    enhancement_hu
        How far the densest percent of the deep brain and its cisterns lies above the brain's median, in HU, without the share of
        the noise.
    dense
        The largest compact dense region; None where there is none.
    """

    brain_hu: float
    csf_hu: float | None
    noise_hu: float
    enhancement_hu: float
    dense: DenseRegion | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the figures in `ImageMeasures`, in HU, mL and mm."""

    brain_hu: float = 37.0
    csf_hu: float = 10.0
    """Usual level of brain and ventricles; heads of 30 to 46 and 5 to 15 HU were measured."""
    shift_hu: float = 10.0
    """Distance from the usual level at which it is a caution."""
    brain_shift_hu: float = 8.0
    """The same for the brain where ventricles lie off by `shift_hu` too: together they prove a shift."""
    agreement_hu: float = 10.0
    """Largest difference between the shift of the brain and that of the ventricles that are one shift."""
    refused_shift_hu: float = 30.0
    """A brain that lies this far from its usual level after correction is no brain in Hounsfield units."""
    no_enhancement_hu: float = 15.0
    little_enhancement_hu: float = 20.0
    dense_ml: float = 1.6
    """Smallest dense region inside the brain."""
    dense_layer_ml: float = 10.0
    """Smallest dense region along the skull."""
    thick_slice_mm: float = 3.0
    little_coverage: float = 0.97


LIMITS: Final = Limits()


def hu_correction(measures: ImageMeasures, limits: Limits = LIMITS) -> float:
    """HU to add to every value, where brain and ventricles prove a shift: both off, alike, to the same side; else 0.

    >>> hu_correction(ImageMeasures(brain_hu=22, csf_hu=-6, noise_hu=3, enhancement_hu=30))
    16.0
    """
    if measures.csf_hu is None:
        return 0.0
    brain, fluid = measures.brain_hu - limits.brain_hu, measures.csf_hu - limits.csf_hu
    proven = abs(fluid) >= limits.shift_hu and abs(brain) >= limits.brain_shift_hu and abs(brain - fluid) <= limits.agreement_hu
    return float(-round((brain + fluid) / 2)) if proven and brain * fluid > 0 else 0.0


def check_hu_level(measures: ImageMeasures, limits: Limits = LIMITS) -> None:
    """Refuse a head whose values are no Hounsfield units of a brain; `measures` are those after a correction.

    Raises
    ------
    NotAnalysed
        `IMPLAUSIBLE_VALUES`.
    """
    if abs(measures.brain_hu - limits.brain_hu) > limits.refused_shift_hu:
        raise NotAnalysed(
            Reason.IMPLAUSIBLE_VALUES,
            f"The brain's median is {measures.brain_hu:.0f} HU, where {limits.brain_hu:.0f} HU is usual.",
        )


def image_cautions(
    measures: ImageMeasures,
    *,
    corrected_hu: float = 0.0,
    slice_mm: float | None = None,
    coverage: float | None = None,
    limits: Limits = LIMITS,
) -> tuple[Caution, ...]:
    """Cautions from the images alone; those that depend on the model are the detector's.

    Parameters
    ----------
    corrected_hu
        What was added to every value before.
    slice_mm
        Distance of the slices or their thickness, the larger of both; None where it is not known.
    coverage
        Share of the brain that lies within the slices, 0 to 1.
    """
    found: list[Caution] = []
    dense = measures.dense
    if dense is not None and dense.volume_ml >= (limits.dense_layer_ml if dense.layer else limits.dense_ml):
        where = {Side.LEFT: ", patient's LEFT", Side.RIGHT: ", patient's RIGHT", Side.NONE: ""}[dense.side]
        found.append(Caution(CautionCode.DENSE_REGION, f"{_volume(dense.volume_ml)}{where}"))
    if measures.enhancement_hu < limits.no_enhancement_hu:
        found.append(Caution(CautionCode.NO_ENHANCEMENT, f"{measures.enhancement_hu:.0f} HU above the brain"))
    elif measures.enhancement_hu < limits.little_enhancement_hu:
        found.append(Caution(CautionCode.LITTLE_ENHANCEMENT, f"{measures.enhancement_hu:.0f} HU above the brain"))
    if corrected_hu:
        found.append(Caution(CautionCode.HU_CORRECTED, f"{corrected_hu:+.0f} HU"))
    elif not _usual_level(measures, limits):
        fluid = "" if measures.csf_hu is None else f", ventricles {measures.csf_hu:.0f} HU"
        found.append(Caution(CautionCode.HU_LEVEL, f"brain {measures.brain_hu:.0f} HU{fluid}"))
    if slice_mm is not None and slice_mm >= limits.thick_slice_mm:
        found.append(Caution(CautionCode.THICK_SLICES, f"{slice_mm:g} mm"))
    if coverage is not None and coverage < limits.little_coverage:
        found.append(Caution(CautionCode.LITTLE_COVERAGE, f"{100 * coverage:.0f} % of the brain lies within the slices"))
    return tuple(found)


def _usual_level(measures: ImageMeasures, limits: Limits) -> bool:
    fluid = 0.0 if measures.csf_hu is None else measures.csf_hu - limits.csf_hu
    return max(abs(measures.brain_hu - limits.brain_hu), abs(fluid)) < limits.shift_hu


def _volume(value_ml: float) -> str:
    return f"{value_ml:.0f} mL" if value_ml >= 10 else f"{value_ml:.1f} mL"
