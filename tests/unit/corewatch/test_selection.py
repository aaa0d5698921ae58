"""Which series are CTA heads: descriptions as the makers' scanners write them, against the built-in rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from config.series import SeriesRule
from corewatch.instance import Instance
from corewatch.reasons import Reason
from corewatch.selection import Rejected, Rule, Selected, select
from tests.support.instances import CORONAL, CT_IMAGE, ENHANCED_CT, one, stack

DEFAULT = SeriesRule(name="cta-head").to_rule()
STORAGE = "1.2.840.10008.5.1.4.1.1."


def series(description: str, *, slices: int = 200, step_mm: float = 0.8, **changes: Any) -> list[Instance]:
    return stack(slices, step_mm, series_description=description, **changes)


def reason(instances: list[Instance], *rules: Rule) -> Reason | None:
    answer = select(instances, rules or (DEFAULT,))
    return answer.reason if isinstance(answer, Rejected) else None


@pytest.mark.parametrize(
    ("description", "changes"),
    [
        ("CTA HEAD 0.5 H30f", {}),  # Siemens
        ("Angio CARO-CEREBRAL 0.75 B20f", {}),
        ("CTA 0.6 Hv40 A3", {"convolution_kernel": "Hv40f\\3"}),
        ("Head_CTA_0.75_B26f", {"body_part": ""}),
        ("CT Angio Brain", {}),  # GE
        ("Thin Head CTA AXIAL", {}),
        ("ANGIO CoW", {"body_part": ""}),
        ("CTA H/N 0.625", {"convolution_kernel": "STANDARD"}),
        ("1.0 x 0.8 HEAD & NECK", {}),  # Philips
        ("CTA, iDose (3)", {"convolution_kernel": "B"}),
        ("AiCE CE Brain", {"convolution_kernel": "FC44"}),  # Canon
        ("CE Head 0.5 CTA", {"convolution_kernel": "FC43"}),
        ("HALS-KOPF CTA", {"body_part": ""}),
        ("CTA Circle of Willis", {"body_part": ""}),
        ("CTA ARCH TO VERTEX", {"body_part": "", "study_description": ""}),
        ("TSA angio", {"body_part": "", "study_description": ""}),
        ("Hirngefäße arteriell 0,6", {"body_part": "", "study_description": ""}),
        ("CTA HEAD W WO CONTRAST", {}),
        ("Head 0.9", {"contrast_agent": "OMNIPAQUE 350"}),
        ("0.75 B20f", {"contrast_agent": "Ultravist", "body_part": "", "study_description": "CT Schädel"}),
        ("0.75 B20f", {"contrast_agent": "APPLIED", "body_part": "", "study_description": "", "protocol_name": "02_Neuro_CTA"}),
    ],
)
def test_cta_heads_are_selected(description: str, changes: dict[str, Any]) -> None:
    assert select(series(description, **changes), [DEFAULT]) == Selected("cta-head", None)


@pytest.mark.parametrize(
    ("description", "changes", "expected"),
    [
        ("NECK CTA MIP COR", {}, Reason.EXCLUDED_BY_RULE),
        ("NECK CTA COR", {"orientation": CORONAL, "position_lps": (0.0, 0.0, 0.0)}, Reason.NOT_AXIAL),
        ("CTA AX MIP 10/2", {}, Reason.EXCLUDED_BY_RULE),
        ("VRT Head CTA", {}, Reason.EXCLUDED_BY_RULE),
        ("Dose Report", {"sop_class_uid": f"{STORAGE}88.67", "modality": "SR"}, Reason.NOT_A_VOLUME),
        ("Dose Report", {"sop_class_uid": f"{STORAGE}7"}, Reason.NOT_A_VOLUME),
        (
            "Patient Protocol",
            {"image_type": ("DERIVED", "SECONDARY", "OTHER", "CSA PROTOCOL"), "slices": 1},
            Reason.EXCLUDED_BY_RULE,
        ),
        (
            "Topogram 0.6 T20s",
            {"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER", "CT_SOM5 TOP"), "slices": 1},
            Reason.NOT_A_VOLUME,
        ),
        ("Scout", {"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER"), "slices": 2}, Reason.NOT_A_VOLUME),
        ("Screen Save", {"image_type": ("DERIVED", "SECONDARY", "SCREEN SAVE"), "slices": 1}, Reason.NOT_A_VOLUME),
        ("CTA HEAD", {"image_type": ("DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 MIP")}, Reason.NOT_A_VOLUME),
        ("CTA HEAD", {"image_type": ("DERIVED", "SECONDARY", "PROJECTION IMAGE", "MIP")}, Reason.NOT_A_VOLUME),
        ("Brain", {"image_type": ("DERIVED", "PRIMARY", "PERFUSION", "RCBF"), "contrast_agent": "Iohexol"}, Reason.NOT_A_VOLUME),
        ("Bone Plus", {}, Reason.EXCLUDED_BY_RULE),
        ("CTA HEAD", {"convolution_kernel": "BONEPLUS"}, Reason.EXCLUDED_BY_RULE),
        ("CTA 0.6 Hr68", {"convolution_kernel": "Hr68f\\3"}, Reason.EXCLUDED_BY_RULE),
        ("CTA HEAD", {"convolution_kernel": "FC30"}, Reason.EXCLUDED_BY_RULE),
        ("CTP 5.0 perfusion", {"contrast_agent": "Iomeron"}, Reason.EXCLUDED_BY_RULE),
        ("Monitoring 10.0 B20f", {"slices": 12}, Reason.EXCLUDED_BY_RULE),
        ("CTA HEAD delayed", {}, Reason.EXCLUDED_BY_RULE),
        ("MonoE 40 keV CTA", {}, Reason.EXCLUDED_BY_RULE),
        ("non contrast head 5mm", {"study_description": "CTA HEAD AND NECK"}, Reason.NO_CONTRAST),
        ("Head 1.0 J40s", {"study_description": "CTA HEAD", "protocol_name": "Stroke_CTA"}, Reason.NO_CONTRAST),
        ("HEAD W/O 0.625", {}, Reason.NO_CONTRAST),
        ("Head without contrast", {"contrast_agent": "OMNIPAQUE"}, Reason.NO_CONTRAST),
        ("Schädel nativ 1.0", {}, Reason.NO_CONTRAST),
        ("Kopf ohne KM", {}, Reason.NO_CONTRAST),
        ("Head", {"contrast_agent": "NONE"}, Reason.NO_CONTRAST),
        ("CTA CHEST", {"body_part": "CHEST", "study_description": "CTA HEAD AND CHEST"}, Reason.NOT_A_HEAD),
        ("CTA Abdomen 1.0", {"body_part": "", "study_description": "Polytrauma head to pelvis"}, Reason.NOT_A_HEAD),
        ("CTA runoff", {"body_part": "", "study_description": "CT"}, Reason.NOT_A_HEAD),
        ("CTA HEAD", {"slices": 20, "step_mm": 5.0}, Reason.TOO_FEW_SLICES),
        ("CTA HEAD", {"slices": 60, "step_mm": 0.5}, Reason.TOO_LITTLE_COVERAGE),
        ("CTA HEAD", {"slices": 60, "step_mm": 6.0}, Reason.SLICES_TOO_THICK),
        ("CTA HEAD", {"slice_thickness_mm": 8.0}, Reason.SLICES_TOO_THICK),
        ("T1 post contrast head", {"sop_class_uid": f"{STORAGE}4", "modality": "MR"}, Reason.NOT_CT),
        ("PET head", {"modality": "PT"}, Reason.NOT_CT),
        ("XA run", {"sop_class_uid": f"{STORAGE}12.1", "modality": "XA"}, Reason.NOT_CT),
        ("KO", {"sop_class_uid": f"{STORAGE}88.59", "modality": "KO"}, Reason.NOT_A_VOLUME),
        ("PDF", {"sop_class_uid": f"{STORAGE}104.1", "modality": "DOC"}, Reason.NOT_A_VOLUME),
        ("GSPS", {"sop_class_uid": f"{STORAGE}11.1", "modality": "PR"}, Reason.NOT_A_VOLUME),
        ("SEG", {"sop_class_uid": f"{STORAGE}66.4", "modality": "SEG"}, Reason.NOT_A_VOLUME),
    ],
)
def test_what_is_no_cta_head_is_named_in_a_radiographers_terms(description: str, changes: dict[str, Any], expected: Reason) -> None:
    assert reason(series(description, **changes)) is expected


def test_nothing_is_no_volume() -> None:
    assert reason([]) is Reason.NOT_A_VOLUME


def test_a_localizer_among_the_slices_does_not_matter() -> None:
    localizer = one(999, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"), orientation=CORONAL)
    assert reason([localizer, *stack()]) is None


def test_the_last_of_the_slices_covers_exactly_what_is_needed() -> None:
    assert reason(stack(40, 2.5)) is None
    assert reason(stack(39, 2.5)) is Reason.TOO_FEW_SLICES
    assert reason(stack(41, 2.4)) is Reason.TOO_LITTLE_COVERAGE
    assert reason(stack(40, 5.0)) is None


def test_an_enhanced_multi_frame_counts_its_frames() -> None:
    enhanced = one(
        1, frames=320, sop_class_uid=ENHANCED_CT, position_lps=None, image_type=("ORIGINAL", "PRIMARY", "VOLUME", "NONE")
    )
    assert reason([enhanced]) is None
    assert reason([replace(enhanced, frames=12)]) is Reason.TOO_FEW_SLICES


def test_a_tilted_gantry_is_axial() -> None:
    tilted = (1.0, 0.0, 0.0, 0.0, 0.8660254, 0.5)
    assert reason(stack(orientation=tilted)) is None


# rules ---------------------------------------------------------------------------------------------------------------------------


def test_the_first_rule_that_matches_decides() -> None:
    wide, strict = Rule("wide", model="a"), Rule("strict", text="CTA", model="b")
    assert select(stack(), [strict, wide]) == Selected("strict", "b")
    assert select(stack(), [wide, strict]) == Selected("wide", "a")


def test_a_rule_may_leave_series_out() -> None:
    research = Rule("research", include=False, text="(?i)research")
    answer = select(series("CTA HEAD RESEARCH"), [research, DEFAULT])
    assert answer == Rejected(Reason.EXCLUDED_BY_RULE, "The rule is called research.")
    assert select(series("CTA HEAD"), [research, DEFAULT]) == Selected("cta-head", None)
    assert isinstance(select(series("CTA HEAD RESEARCH"), [DEFAULT, research]), Selected)


def test_the_rule_that_came_closest_gives_the_reason() -> None:
    far, near = Rule("far", text="(?i)knee"), Rule("near", text="(?i)head", min_slices=500)
    for rules in ([far, near], [near, far]):
        answer = select(stack(), rules)
        assert isinstance(answer, Rejected)
        assert answer.reason is Reason.TOO_FEW_SLICES
        assert "500" in answer.detail


def test_without_a_rule_nothing_is_analysed() -> None:
    assert reason(stack(), Rule("out", include=False, text="knee")) is Reason.EXCLUDED_BY_RULE
    assert isinstance(select(stack(), []), Rejected)


def test_details_hold_no_description() -> None:
    for description in ("MIP DOE^JANE", "non contrast DOE^JANE", "CTA CHEST DOE^JANE"):
        answer = select(series(description, body_part="", study_description="DOE^JANE"), [DEFAULT])
        assert isinstance(answer, Rejected)
        assert "DOE" not in answer.detail


texts = st.text(max_size=80)


@given(
    st.permutations(stack(48, 2.5)),
    st.builds(dict, series_description=texts, study_description=texts, body_part=texts, protocol_name=texts, contrast_agent=texts),
)
def test_the_order_of_instances_decides_nothing_and_no_text_breaks_it(shuffled: list[Instance], words: dict[str, str]) -> None:
    ordered = [replace(i, **words) for i in stack(48, 2.5)]
    assert select([replace(i, **words) for i in shuffled], [DEFAULT]) == select(ordered, [DEFAULT])


@given(st.integers(1, 120), st.floats(0.3, 8.0))
def test_geometry_is_judged_by_its_numbers(slices: int, step_mm: float) -> None:
    needed, allowed = 100 - 1e-3, 5 + 1e-3
    # at the limit itself the rounding of positions decides
    assume(abs(slices * step_mm - needed) > 1e-9 and abs(step_mm - allowed) > 1e-9)
    found = reason(stack(slices, step_mm))
    assert (found is None) == (slices >= 40 and slices * step_mm >= needed and step_mm <= allowed)


@pytest.mark.parametrize("slices", [40, 41, 64, 97, 120])
@pytest.mark.parametrize("off_mm", [-1e-8, 1e-8])
def test_geometry_is_judged_on_both_sides_of_its_limits(slices: int, off_mm: float) -> None:
    assert (reason(stack(slices, (100 - 1e-3) / slices + off_mm)) is None) == (off_mm > 0)
    assert (reason(stack(slices, 5 + 1e-3 + off_mm)) is None) == (off_mm < 0)


def test_a_hostile_text_takes_no_time() -> None:
    hostile = series("w/o " * 20_000, study_description="a" * 1_000_000)
    assert reason(hostile) is Reason.NO_CONTRAST


@pytest.mark.parametrize("word", ["SLOMIP", "TMAXIMAL", "CT_SOM5 SPI", "HELIX", "MONITORED"])
def test_only_whole_words_of_the_image_type_count(word: str) -> None:
    assert reason(stack(image_type=("ORIGINAL", "PRIMARY", "AXIAL", word))) is None


@pytest.mark.parametrize("sop_class", [CT_IMAGE, ENHANCED_CT, f"{STORAGE}2.2"])
def test_every_ct_image_class_counts(sop_class: str) -> None:
    assert reason(stack(sop_class_uid=sop_class)) is None
