"""The words of a finding."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corewatch.findings import Side
from corewatch.volumes import AlignmentQuality
from outputs import wording
from tests.support.results import failed, finding, make_case, not_analysed


@given(value=st.floats(0, 1000), alert_ml=st.floats(0.1, 200))
def test_a_shown_volume_is_never_on_the_other_side_of_the_threshold(value: float, alert_ml: float) -> None:
    assert (float(wording.number_ml(value, alert_ml)) >= alert_ml) == (value >= alert_ml)


@given(value=st.floats(0, 1000), alert_ml=st.floats(0.1, 200))
def test_a_shown_volume_is_at_most_half_a_millilitre_off(value: float, alert_ml: float) -> None:
    assert abs(float(wording.number_ml(value, alert_ml)) - value) <= 0.5


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0.0"), (3.24, "3.2"), (12.4, "12"), (19.7, "19.7"), (19.97, "19.97"), (20.0, "20"), (22.936975, "23"), (135.2, "135")],
)
def test_digits(value: float, shown: str) -> None:
    assert wording.number_ml(value, 20.0) == shown


def test_headline_names_alert_volume_and_side(tmp_path: Path) -> None:
    assert wording.headline(make_case(tmp_path)) == "ALERT core 34 mL left"
    assert wording.headline(make_case(tmp_path, core_ml=3.24, alert=False, side=Side.NONE)) == "no alert core 3.2 mL side unclear"
    assert wording.headline(make_case(tmp_path, unstable=True)) == "ALERT core 34 mL left, unstable"
    assert wording.headline(not_analysed(make_case(tmp_path))) == "not analysed"
    assert wording.headline(failed(make_case(tmp_path))) == "FAILED"


def test_interval_and_instability() -> None:
    assert wording.interval(finding()) == "28 to 42 mL"
    assert wording.interval(finding(core_ml_interval=None)) is None
    assert wording.instability(finding()) is None
    assert wording.instability(finding(unstable=True)) == "UNSTABLE: the placement range crosses 20 mL"
    other_side = finding(core_ml=20.0, core_ml_interval=(11.0, 17.2), unstable=True)
    assert wording.instability(other_side) == "UNSTABLE: the placement range lies beyond 20 mL"


def test_verdict_and_side_in_words() -> None:
    assert wording.verdict(finding()) == "ALERT: core at or above 20 mL"
    assert wording.verdict(finding(alert=False, alert_ml=7.5)) == "No alert: core below 7.5 mL"
    assert [wording.side(finding(side=side)) for side in Side] == ["patient's LEFT", "patient's RIGHT", "no clear side"]


def test_model_and_alignment() -> None:
    assert wording.model(finding().model) == "phantom-demo 1.0 (01234567)"
    assert "DEMONSTRATION" in wording.model_for_readers(finding().model)
    assert "DEMONSTRATION" not in wording.model_for_readers(replace(finding().model, name="hospital-model"))
    assert wording.alignment(AlignmentQuality(0.934, -0.21, -0.14)) == "quality 0.93; midline off by 0.2 mm, 0.1°"
    assert wording.alignment(None) == "supplied aligned, not checked"


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        (UTC, "2026-11-20 10:18:01 UTC"),
        (timezone(timedelta(hours=1)), "2026-11-20 10:18:01 UTC+01:00"),
        (timezone(-timedelta(hours=3, minutes=30)), "2026-11-20 10:18:01 UTC-03:30"),
    ],
)
def test_moments_name_their_zone(zone: timezone, shown: str) -> None:
    assert wording.moment(datetime(2026, 11, 20, 10, 18, 1, tzinfo=zone)) == shown
