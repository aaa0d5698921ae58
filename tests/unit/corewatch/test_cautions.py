"""Cautions: their words, their order, and what remains of them in `result.json` and the ledger."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corewatch.cautions import Caution, CautionCode, codes_of, in_order, voiding

cautions = st.lists(st.builds(Caution, st.sampled_from(CautionCode), st.sampled_from(("", "14 mL", "{}"))), max_size=12)


@pytest.mark.parametrize("code", CautionCode)
def test_every_caution_has_its_words(code: CautionCode) -> None:
    caution = Caution(code, "MEASURED")
    assert "MEASURED" in caution.sentence
    assert caution.sentence.endswith((".", "?"))
    assert caution.remedy.endswith(".")
    assert len(caution.title) <= 60
    assert json.loads(json.dumps(caution.to_json()))["code"] == str(code)


@given(cautions)
def test_order_repeats_and_codes(given_ones: Sequence[Caution]) -> None:
    ordered = in_order(given_ones)
    places = [list(CautionCode).index(one.code) for one in ordered]
    assert places == sorted(places)
    assert set(ordered) == set(given_ones)
    assert len(ordered) == len(set(given_ones))
    assert codes_of(given_ones) == [str(code) for code in CautionCode if code in {one.code for one in given_ones}]


@given(cautions)
def test_the_gravest_voiding_caution_is_the_headline(given_ones: Sequence[Caution]) -> None:
    void = voiding(given_ones)
    assert (void is None) == all(one.estimate_holds for one in given_ones)
    if void is not None:
        assert not void.estimate_holds
        assert void == next(one for one in in_order(given_ones) if not one.estimate_holds)


def test_a_haemorrhage_and_missing_contrast_void_the_estimate() -> None:
    assert {code for code in CautionCode if not Caution(code).estimate_holds} == {
        CautionCode.DENSE_REGION,
        CautionCode.NO_ENHANCEMENT,
    }
