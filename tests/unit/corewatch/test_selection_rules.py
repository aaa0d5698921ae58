"""Each condition of a rule for itself, with rules that ask for one thing, and each reason that makes an instance no slice."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from config.series import SeriesRule
from corewatch.instance import Instance
from corewatch.reasons import Reason
from corewatch.selection import MAX_TEXT, Rejected, Rule, Selected, not_a_slice, select
from tests.support.instances import CORONAL, CT_IMAGE, ENHANCED_CT, one, stack

DEFAULT = SeriesRule(name="cta-head").to_rule()
STORAGE = "1.2.840.10008.5.1.4.1.1."
LOCALIZER = {"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")}
OK = Selected("r", None)


def ask(instances: list[Instance], **rule: Any) -> Selected | Rejected:
    return select(instances, [Rule("r", **rule)])


def reason(answer: Selected | Rejected) -> Reason | None:
    return answer.reason if isinstance(answer, Rejected) else None


# no slice at all ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, None),
        ({"modality": ""}, None),
        ({"modality": "ct"}, None),
        ({"modality": "MR"}, Rejected(Reason.NOT_CT, "")),
        ({"sop_class_uid": ENHANCED_CT}, None),
        ({"sop_class_uid": f"{STORAGE}2.2"}, None),
        ({"sop_class_uid": f"{STORAGE}4", "modality": "CT"}, Rejected(Reason.NOT_CT, "")),
        ({"sop_class_uid": "1.3.12.2.1107.5.9.1"}, Rejected(Reason.NOT_CT, "")),
        # a private class is never one of the standard's families, whatever its components are
        ({"sop_class_uid": "7.1"}, Rejected(Reason.NOT_CT, "")),
        ({"sop_class_uid": f"{STORAGE}7"}, Rejected(Reason.NOT_A_VOLUME, "It is a secondary capture.")),
        ({"sop_class_uid": f"{STORAGE}7.4"}, Rejected(Reason.NOT_A_VOLUME, "It is a secondary capture.")),
        ({"sop_class_uid": f"{STORAGE}88.33"}, Rejected(Reason.NOT_A_VOLUME, "It is a structured report.")),
        ({"sop_class_uid": f"{STORAGE}481.3"}, Rejected(Reason.NOT_A_VOLUME, "It belongs to radiotherapy.")),
        # results of corewatch are recognised by their description; a CT series that a user named so is still a CT
        ({"sop_class_uid": f"{STORAGE}7", "series_description": "corewatch ischemic core 1"}, Rejected(Reason.OWN_RESULT, "")),
        ({"sop_class_uid": f"{STORAGE}66.4", "series_description": "corewatch ischemic core"}, Rejected(Reason.OWN_RESULT, "")),
        (
            {"sop_class_uid": f"{STORAGE}7", "series_description": "a corewatch ischemic core"},
            Rejected(Reason.NOT_A_VOLUME, "It is a secondary capture."),
        ),
        ({"series_description": "corewatch ischemic core"}, None),
        # Image Type counts from its third value
        ({"image_type": ("LOCALIZER", "LOCALIZER", "AXIAL")}, None),
        ({"image_type": ("DERIVED", "SECONDARY", "LOCALIZER")}, Rejected(Reason.NOT_A_VOLUME, "It is a localizer.")),
        ({"image_type": ("DERIVED", "SECONDARY", "AXIAL", "max_ip")}, Rejected(Reason.NOT_A_VOLUME, "It is a projection.")),
        (
            {"image_type": ("DERIVED", "SECONDARY", "AXIAL", "x" * (MAX_TEXT - 4) + " MIP")},
            Rejected(Reason.NOT_A_VOLUME, "It is a projection."),
        ),
        ({"image_type": ("DERIVED", "SECONDARY", "AXIAL", "x" * (MAX_TEXT - 3) + " MIP")}, None),
    ],
)  # fmt: skip
def test_why_an_instance_is_no_slice(changes: dict[str, Any], wanted: Rejected | None) -> None:
    assert not_a_slice(one(**changes)) == wanted


def test_the_majority_decides_what_a_series_is() -> None:
    scouts = [one(200 + n, **LOCALIZER) for n in range(5)]
    assert ask([*stack(5), *scouts]) == OK, "half of them are slices"
    assert ask([*stack(4), *scouts]) == Rejected(Reason.NOT_A_VOLUME, "It is a localizer.")
    captures = [one(300 + n, sop_class_uid=f"{STORAGE}7") for n in range(4)]
    for order in ([*captures, *scouts], [*scouts, *captures]):
        assert ask(order) == Rejected(Reason.NOT_A_VOLUME, "It is a localizer."), "the most frequent kind"
    for order in ([*captures, *scouts[:4]], [*scouts[:4], *captures]):
        assert ask(order) == Rejected(Reason.NOT_A_VOLUME, "It is a secondary capture."), "of equal numbers always the same"


def test_what_is_no_slice_does_not_describe_the_series() -> None:
    pages = [one(200 + n, series_description="Patient protocol KNEE", **LOCALIZER) for n in range(3)]
    assert ask([*pages, *stack(4)], text="CTA") == OK


# the texts ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["body_part", "study_description", "series_description", "protocol_name"])
def test_the_head_may_be_named_in_any_of_four_places(field: str) -> None:
    nameless = dict.fromkeys(("body_part", "study_description", "series_description", "protocol_name"), "")
    assert reason(ask(stack(4, **nameless), text="(?i)head")) is Reason.NOT_A_HEAD
    assert ask(stack(4, **nameless | {field: "a head of somebody"}), text="(?i)head") == OK


@pytest.mark.parametrize(
    ("texts", "head"),
    [
        ({"series_description": "CTA HEAD AND CHEST"}, True),
        ({"series_description": "CTA CHEST", "body_part": "HEAD"}, True),
        ({"series_description": "CTA HEAD", "body_part": "CHEST"}, True),
        ({"series_description": "CTA CHEST", "body_part": ""}, False),
        ({"series_description": "CTA", "body_part": "CHEST"}, False),
        ({"series_description": "CTA", "body_part": ""}, True),
        ({"series_description": "CTA", "body_part": "", "study_description": "HEAD AND CHEST"}, True),
    ],
)
def test_a_series_that_names_the_head_and_another_part_is_kept(texts: dict[str, str], head: bool) -> None:
    """Only where series and body part name another part, and not the head too, the study's head is that of another series."""
    series = stack(4, **{"study_description": "CT HEAD"} | texts)
    answer = ask(series, text="HEAD", elsewhere_text="CHEST")
    assert answer == (OK if head else Rejected(Reason.NOT_A_HEAD, "Body part or series description name another part of the body."))
    assert ask(series, text="HEAD") == OK, "no rule without other parts turns it away"


@pytest.mark.parametrize("field", ["body_part", "study_description", "series_description", "protocol_name"])
def test_the_text_that_most_slices_bear_counts(field: str) -> None:
    nameless = dict.fromkeys(("body_part", "study_description", "series_description", "protocol_name"), "")
    heads = stack(6, **nameless | {field: "HEAD"})
    knees = [replace(i, **{field: "KNEE"}) for i in stack(5, **nameless)]
    for order in ([*heads, *knees], [*knees, *heads]):
        assert ask(order, text="HEAD") == OK
        assert reason(ask(order, text="KNEE")) is Reason.NOT_A_HEAD
    for order in ([*heads[:5], *knees], [*knees, *heads[:5]]):
        assert ask(order, text="KNEE") == OK, "of equal numbers always the same one"


def test_of_two_kernels_and_agents_the_more_frequent_one_counts() -> None:
    soft = stack(6, convolution_kernel="H30f", contrast_agent="IODINE")
    bone = stack(5, convolution_kernel="H70h", contrast_agent="")
    assert ask([*bone, *soft], not_kernel="70", contrast=True) == OK
    assert reason(ask([*bone, *soft[:4]], not_kernel="70")) is Reason.EXCLUDED_BY_RULE
    assert reason(ask([*bone, *soft[:4]], contrast=True, contrast_text="^$nothing")) is Reason.NO_CONTRAST


def test_texts_are_cut_and_made_plain_before_they_are_searched() -> None:
    assert ask(stack(4, series_description="CTA_HEAD^NECK"), text="CTA HEAD NECK") == OK
    assert ask(stack(4, series_description="x" * (MAX_TEXT - 4) + "HEAD"), text="HEAD$") == OK
    beyond = stack(4, series_description="x" * (MAX_TEXT - 3) + "HEAD", body_part="", study_description="")
    assert reason(ask(beyond, text="HEAD")) is Reason.NOT_A_HEAD
    assert ask(stack(4, series_description="Scha\u0308del"), text="Sch\u00e4del") == OK
    assert MAX_TEXT == 256


def test_a_kind_of_series_is_known_by_its_own_description_alone() -> None:
    assert reason(ask(stack(4, series_description="CTA MIP"), not_text="MIP")) is Reason.EXCLUDED_BY_RULE
    assert ask(stack(4, study_description="MIP", protocol_name="MIP", body_part="MIP"), not_text="MIP") == OK
    assert reason(ask(stack(4, convolution_kernel="H70h"), not_kernel="H70")) is Reason.EXCLUDED_BY_RULE
    assert ask(stack(4, series_description="H70"), not_kernel="H70") == OK


# contrast -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("agent", ["", " ", "NONE", "none", " No ", "n", "0", "nil", "NATIVE", "nativ", "without", "Unknown"])
def test_words_for_no_agent(agent: str) -> None:
    series = stack(4, contrast_agent=agent, series_description="Head")
    assert reason(ask(series, contrast=True, contrast_text="CTA")) is Reason.NO_CONTRAST
    assert ask(series, contrast=True, contrast_text="Head") == OK
    assert ask(series) == OK, "a rule need not ask for contrast"


@pytest.mark.parametrize("agent", ["OMNIPAQUE 350", "APPLIED", "100", "NONIONIC"])
def test_any_other_word_is_an_agent(agent: str) -> None:
    series = stack(4, contrast_agent=agent, series_description="Head native")
    assert ask(series, contrast=True, contrast_text="CTA") == OK
    assert ask(series, contrast=True, contrast_text="CTA", native_text="plain") == OK
    answer = ask(series, contrast=True, contrast_text="CTA", native_text="native")
    assert answer == Rejected(Reason.NO_CONTRAST, "Its description says so.")


# geometry -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("degrees", "axial"), [(0.0, True), (44.9, True), (45.1, False), (90.0, False), (135.1, True), (180.0, True)]
)
def test_axial_ends_at_half_of_a_right_angle(degrees: float, axial: bool) -> None:
    turn = math.radians(degrees)
    turned = stack(8, orientation=(1.0, 0.0, 0.0, 0.0, math.cos(turn), math.sin(turn)))
    assert reason(ask(turned)) is (None if axial else Reason.NOT_AXIAL)


def test_a_rule_that_asks_for_nothing_takes_a_single_slice() -> None:
    assert ask(stack(1)) == OK
    assert ask(stack(1, 50.0)) == OK


@pytest.mark.parametrize(("slices", "enough"), [(9, False), (10, True), (11, True)])
def test_the_least_number_of_slices(slices: int, enough: bool) -> None:
    answer = ask(stack(slices), min_slices=10)
    assert answer == (OK if enough else Rejected(Reason.TOO_FEW_SLICES, "It has 9; at least 10 are needed."))


def test_slices_are_positions_and_frames() -> None:
    phases = [replace(i, sop_instance_uid=f"{i.sop_instance_uid}.{n}") for n in range(3) for i in stack(9)]
    assert reason(ask(phases, min_slices=10)) is Reason.TOO_FEW_SLICES, "three phases of nine slices are nine slices"
    frames = one(1, frames=6, sop_class_uid=ENHANCED_CT, position_lps=None)
    assert ask([frames, replace(frames, sop_instance_uid="9")], min_slices=12) == OK
    assert reason(ask([frames, replace(frames, sop_instance_uid="9")], min_slices=13)) is Reason.TOO_FEW_SLICES
    # frames do not say where they lie: what is seen of single slices beside them decides nothing
    assert ask([replace(frames, frames=40), *stack(3)], min_slices=43, min_coverage_mm=100.0) == OK


@pytest.mark.parametrize(
    ("thickness", "step", "fine"),
    [
        ((None, None), 5.0, True),
        ((None, None), 5.1, False),
        ((5.1, 5.1), 1.0, False),
        ((5.0, 5.0), 1.0, True),
        ((8.0, 1.0), 1.0, True),
        ((8.0, 0.0), 1.0, False),
        ((0.0, 0.0), 5.1, False),
        ((0.5, 0.5), 5.1, False),
    ],
)
def test_thickness_and_step_are_both_bounded(thickness: tuple[float | None, float | None], step: float, fine: bool) -> None:
    """Of several thicknesses the smallest: a header with one odd slice is not refused for it. Zero is none."""
    series = [replace(i, slice_thickness_mm=thickness[n % 2]) for n, i in enumerate(stack(20, step))]
    answer = ask(series, max_slice_step_mm=5.0)
    assert reason(answer) is (None if fine else Reason.SLICES_TOO_THICK)
    if isinstance(answer, Rejected):
        widest = max(step, *(t for t in thickness if t), 0.0)
        assert answer.detail == f"They measure {widest:.1f} mm; at most 5 mm are allowed."


def test_a_series_without_positions_is_judged_by_its_number_of_slices_alone() -> None:
    placeless = stack(20, position_lps=None, orientation=CORONAL, slice_thickness_mm=None)
    assert ask(placeless, min_slices=20, min_coverage_mm=500.0, max_slice_step_mm=0.1) == OK
    assert reason(ask(placeless, min_slices=21)) is Reason.TOO_FEW_SLICES


def test_coverage_counts_both_faces() -> None:
    assert ask(stack(40, 2.5), min_coverage_mm=100.0) == OK
    answer = ask(stack(39, 2.5), min_coverage_mm=100.0)
    assert answer == Rejected(Reason.TOO_LITTLE_COVERAGE, "They cover 98 mm; at least 100 mm are needed.")


# which rule answers ---------------------------------------------------------------------------------------------------------------


def test_of_rules_that_came_equally_close_the_first_answers() -> None:
    rules = [Rule("a", min_slices=500), Rule("b", min_slices=600)]
    for order in (rules, rules[::-1]):
        answer = select(stack(), order)
        assert isinstance(answer, Rejected)
        assert f"at least {order[0].min_slices}" in answer.detail


def test_a_rule_that_leaves_out_never_answers_for_one_that_includes() -> None:
    out = Rule("out", include=False, text="HEAD", min_slices=500)
    answer = select(stack(), [out, Rule("in", text="KNEE")])
    assert reason(answer) is Reason.NOT_A_HEAD
    assert select(stack(), [out]) == Rejected(Reason.EXCLUDED_BY_RULE, "No rule includes it.")


FAILING = {
    "text": ({"text": "KNEE"}, Reason.NOT_A_HEAD),
    "wanted": ({"not_text": "CTA"}, Reason.EXCLUDED_BY_RULE),
    "contrast": ({"contrast": True, "contrast_text": "agent"}, Reason.NO_CONTRAST),
    "step": ({"max_slice_step_mm": 0.1}, Reason.SLICES_TOO_THICK),
    "slices": ({"min_slices": 900}, Reason.TOO_FEW_SLICES),
    "coverage": ({"min_coverage_mm": 900.0}, Reason.TOO_LITTLE_COVERAGE),
}


@pytest.mark.parametrize("first", range(len(FAILING)))
def test_a_rule_names_what_failed_first_in_the_order_in_which_a_person_would_ask(first: int) -> None:
    """And of two rules the one whose condition comes later came closer."""
    conditions = list(FAILING.values())
    together = Rule("all", **{k: v for change, _ in conditions[first:] for k, v in change.items()})
    assert reason(select(stack(), [together])) is conditions[first][1]
    later = Rule("later", **conditions[-1][0])
    assert reason(select(stack(), [together, later])) is Reason.TOO_LITTLE_COVERAGE
    assert reason(select(stack(), [later, together])) is Reason.TOO_LITTLE_COVERAGE


def test_the_built_in_rule_takes_the_ordinary_series() -> None:
    assert select(stack(160, sop_class_uid=CT_IMAGE), [DEFAULT]) == Selected("cta-head", None)
