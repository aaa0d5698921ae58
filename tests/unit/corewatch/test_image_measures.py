"""What follows from the figures of an aligned head: on both sides of each limit."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corewatch.cautions import CautionCode
from corewatch.errors import NotAnalysed
from corewatch.findings import Side
from corewatch.image_measures import LIMITS, DenseRegion, ImageMeasures, check_hu_level, hu_correction, image_cautions
from corewatch.reasons import Reason

GOOD = ImageMeasures(brain_hu=37.0, csf_hu=10.0, noise_hu=3.0, enhancement_hu=28.0)


def codes(measures: ImageMeasures, **others: float) -> list[CautionCode]:
    return [one.code for one in image_cautions(measures, **others)]


def test_a_good_head_has_no_caution() -> None:
    assert codes(GOOD, slice_mm=1.0, coverage=1.0) == []


@pytest.mark.parametrize(
    ("region", "cautioned"),
    [
        (DenseRegion(1.59, Side.LEFT, layer=False), False),
        (DenseRegion(1.6, Side.LEFT, layer=False), True),
        (DenseRegion(9.9, Side.LEFT, layer=True), False),
        (DenseRegion(10.0, Side.LEFT, layer=True), True),
    ],
)
def test_dense_regions(region: DenseRegion, cautioned: bool) -> None:
    assert codes(replace(GOOD, dense=region)) == ([CautionCode.DENSE_REGION] if cautioned else [])


def test_a_dense_region_names_volume_and_side() -> None:
    (caution,) = image_cautions(replace(GOOD, dense=DenseRegion(14.3, Side.LEFT, layer=False)))
    assert caution.title == "Dense region of 14 mL, patient's LEFT: haemorrhage?"


@pytest.mark.parametrize(
    ("hu", "code"),
    [(14.9, CautionCode.NO_ENHANCEMENT), (15.0, CautionCode.LITTLE_ENHANCEMENT), (19.9, CautionCode.LITTLE_ENHANCEMENT)],
)
def test_enhancement(hu: float, code: CautionCode) -> None:
    assert codes(replace(GOOD, enhancement_hu=hu)) == [code]


def test_slices_and_coverage() -> None:
    assert codes(GOOD, slice_mm=2.99, coverage=0.97) == []
    assert codes(GOOD, slice_mm=3.0, coverage=0.969) == [CautionCode.THICK_SLICES, CautionCode.LITTLE_COVERAGE]


def test_hu_level_and_correction_are_named() -> None:
    assert codes(replace(GOOD, brain_hu=47.0)) == [CautionCode.HU_LEVEL]
    assert codes(replace(GOOD, csf_hu=0.0)) == [CautionCode.HU_LEVEL]
    assert codes(replace(GOOD, brain_hu=46.9, csf_hu=19.9)) == []
    assert codes(GOOD, corrected_hu=12.0) == [CautionCode.HU_CORRECTED]


@given(shift=st.floats(-60, 60))
def test_a_shift_of_everything_is_corrected_from_ten_hu_on(shift: float) -> None:
    moved = replace(GOOD, brain_hu=GOOD.brain_hu + shift, csf_hu=10.0 + shift)
    correction = hu_correction(moved)
    assert abs(shift + correction) <= (0.5 if abs(shift) >= LIMITS.shift_hu else LIMITS.shift_hu)


@given(brain=st.floats(-50, 120), csf=st.floats(-60, 90))
def test_a_correction_never_makes_the_level_worse(brain: float, csf: float) -> None:
    measures = replace(GOOD, brain_hu=brain, csf_hu=csf)
    correction = hu_correction(measures)
    before = max(abs(brain - LIMITS.brain_hu), abs(csf - LIMITS.csf_hu))
    after = max(abs(brain + correction - LIMITS.brain_hu), abs(csf + correction - LIMITS.csf_hu))
    assert after <= before
    assert hu_correction(replace(measures, csf_hu=None)) == 0


def test_one_tissue_alone_proves_no_shift() -> None:
    assert hu_correction(replace(GOOD, brain_hu=60.0)) == 0
    assert hu_correction(replace(GOOD, csf_hu=-20.0)) == 0
    assert hu_correction(replace(GOOD, brain_hu=60.0, csf_hu=-20.0)) == 0


def test_what_is_no_brain_in_hounsfield_units_is_refused() -> None:
    check_hu_level(replace(GOOD, brain_hu=67.0))
    with pytest.raises(NotAnalysed) as refusal:
        check_hu_level(replace(GOOD, brain_hu=67.1))
    assert refusal.value.reason is Reason.IMPLAUSIBLE_VALUES
