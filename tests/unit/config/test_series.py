"""Series rules as people write them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from config.series import SeriesRule
from corewatch.reasons import Reason
from corewatch.selection import Rejected, Selected, select
from tests.support.instances import stack


def test_a_rule_that_leaves_out_asks_only_what_it_names() -> None:
    out = SeriesRule(name="mip", include=False, text="(?i)mip").to_rule()
    answer = select(stack(2, series_description="thin MIP"), [out])
    assert isinstance(answer, Rejected)
    assert answer.reason is Reason.EXCLUDED_BY_RULE
    assert "mip" in answer.detail


def test_a_rule_that_leaves_out_may_name_numbers() -> None:
    out = SeriesRule(name="long", include=False, text="(?i)cta", min_slices=500).to_rule()
    rules = [out, SeriesRule(name="cta-head").to_rule()]
    assert select(stack(400), rules) == Selected("cta-head", None)
    assert isinstance(select(stack(600), rules), Rejected)


def test_a_rule_that_leaves_out_needs_a_text() -> None:
    with pytest.raises(ValidationError, match="must set text"):
        SeriesRule(name="all", include=False)


@pytest.mark.parametrize("field", ["text", "not_text", "contrast_text", "native_text", "not_kernel", "elsewhere_text"])
def test_a_pattern_must_compile(field: str) -> None:
    with pytest.raises(ValidationError, match="not a regular expression"):
        SeriesRule.model_validate({"name": "x", field: "(head"})


def test_every_field_of_a_rule_reaches_the_decision() -> None:
    settings = SeriesRule(name="x", min_slices=7, min_coverage_mm=11.0, max_slice_step_mm=0.7, model="m", text="t", contrast=False)
    rule = settings.to_rule()
    assert {name: getattr(rule, name) for name in SeriesRule.model_fields} == settings.model_dump()
