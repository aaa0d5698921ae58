"""The worklist's words and the filters of its address."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corewatch.states import CaseState
from ledger.alerts import Alert, EscalationLevel, EscalationState
from ledger.cases import Case
from ledger.worklist import WorklistRow
from portal.worklist_view import PRESETS, WorklistAddress, duration_words, range_words, row_view, verdict_of, volume_words

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
CASE = Case(
    case_id="c1", case_key=None, study_uid="9", series_uid="1", revision=1, aligned_path=None, state=CaseState.DELIVERED,
    reason=None,
    detail="", failed_stage=None, superseded_by=None, model=None, email=(), attempts=0, holder=None, lease_until=None,
    created_at=NOW, last_stored_at=NOW - timedelta(minutes=5), updated_at=NOW, core_ml=19.97, side="left", alert=False,
    cautions=None, files_removed=False,
)  # fmt: skip


@pytest.mark.parametrize(
    ("state", "core_ml", "alert", "kind"),
    [
        (CaseState.RECEIVING, None, None, "working"),
        (CaseState.DELIVERING, 30.0, True, "alert"),
        (CaseState.FAILED, 30.0, True, "alert"),
        (CaseState.FAILED, 3.0, False, "failed"),
        (CaseState.DELIVERED, 3.0, False, "negative"),
        (CaseState.NOT_ANALYSED, None, None, "not_analysed"),
        (CaseState.SUPERSEDED, 30.0, True, "superseded"),
    ],
)
def test_verdict(state: CaseState, core_ml: float | None, alert: bool | None, kind: str) -> None:
    assert verdict_of(replace(CASE, state=state, core_ml=core_ml, alert=alert), has_alert=bool(alert)).kind == kind


def test_volumes_are_never_rounded_across_the_threshold() -> None:
    assert volume_words(CASE, 20.0) == "19.97 mL"
    assert range_words(replace(CASE, core_ml_low=12.0, core_ml_high=20.0), 20.0) == "12 to 20 mL"
    assert range_words(CASE, 20.0) == ""


def row(case: Case, alert: Alert | None, *, took: timedelta | None = None, level: EscalationLevel | None = None) -> WorklistRow:
    return WorklistRow(case, alert, took, level, (), ("CT-2",))


def test_an_open_alert_says_how_long_it_waits_and_what_follows() -> None:
    alert = Alert("c1", NOW - timedelta(seconds=95), None, None, None)
    level = EscalationLevel(2, NOW + timedelta(minutes=4), EscalationState.WAITING)
    view = row_view(row(replace(CASE, alert=True), alert, level=level), {}, now=NOW, alert_ml=20, sla_s=300, model="m")
    assert (view.is_open, view.waiting, view.alerted, view.in_time) == (True, "1 min 35 s", "", None)
    assert view.escalation.startswith("Level 2 at ")
    assert not view.overdue
    assert row_view(row(replace(CASE, alert=True), alert), {}, now=NOW, alert_ml=20, sla_s=299, model="m").overdue
    done = replace(alert, acknowledged_at=NOW, acknowledged_by="Brandt")
    took = timedelta(seconds=301)
    view = row_view(row(CASE, done, took=took, level=level), {}, now=NOW, alert_ml=20, sla_s=300, model="phantom-demo")
    assert (view.is_open, view.waiting, view.escalation, view.alerted, view.in_time) == (False, "", "", "301 s", False)
    assert view.acknowledged.startswith("Brandt, ")
    assert view.demonstration


@given(st.integers(0, 10**8))
def test_durations_keep_their_two_largest_units(seconds: int) -> None:
    parts = duration_words(timedelta(seconds=seconds)).split()
    units = {"d": 86400, "h": 3600, "min": 60, "s": 1}
    told = sum(int(number) * units[unit] for number, unit in zip(parts[::2], parts[1::2], strict=True))
    smallest = units[parts[-1]]
    assert 0 <= seconds - told < max(smallest, 3600 if seconds >= 86400 else 60 if seconds >= 3600 else 1)


@given(st.dictionaries(st.sampled_from(["show", "state", "scanner", "day", "found", "after"]), st.text(max_size=70)))
def test_any_address_is_a_filter(parameters: dict[str, str]) -> None:
    address = WorklistAddress.parse(parameters)
    address.filter(NOW, "brandt")
    assert address.show in dict(PRESETS)
    assert WorklistAddress.parse({}).query() == ""


def test_presets() -> None:
    def wanted(**values: str) -> object:
        return WorklistAddress.parse(values).filter(NOW, "brandt")

    assert wanted(show="open").open_alerts  # type: ignore[attr-defined]
    assert wanted(show="mine").acknowledged_by == "brandt"  # type: ignore[attr-defined]
    assert wanted(show="failed").states == (CaseState.FAILED,)  # type: ignore[attr-defined]
    day = wanted(day="2026-11-20")
    assert day.until - day.since == timedelta(days=1)  # type: ignore[attr-defined]
    assert wanted(day="2026-13-20").since is None  # type: ignore[attr-defined]
    assert wanted(found="A123").identifier_hash is None  # type: ignore[attr-defined]
