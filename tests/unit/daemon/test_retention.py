"""What retention removes, and in which order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from config.settings import RetentionSettings
from corewatch.states import ENDS, CaseState
from daemon.upkeep.retention import REMOVABLE_EARLY, Holding, plan_retention

NOW = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
KEEP = RetentionSettings(delivered_days=7, failed_days=30, free_gib=20)
S = CaseState


def held(case_id: str, state: CaseState, days: float, *arrivals: str) -> Holding:
    return Holding(case_id, state, NOW - timedelta(days=days), frozenset(arrivals))


def came(**days: float) -> dict[str, datetime]:
    return {name: NOW - timedelta(days=d) for name, d in days.items()}


def test_days_by_state() -> None:
    holdings = [
        held("delivered", S.DELIVERED, 7),
        held("superseded", S.SUPERSEDED, 7),
        held("young", S.DELIVERED, 6.9),
        held("failed", S.FAILED, 7),
        held("old-failed", S.FAILED, 30),
        held("old-not-analysed", S.NOT_ANALYSED, 30),
        held("not-analysed", S.NOT_ANALYSED, 29),
        held("stuck", S.QUEUED, 400),
        held("receiving", S.RECEIVING, 400),
        held("delivering", S.DELIVERING, 400),
    ]
    due = plan_retention(holdings, {}, KEEP, NOW).due
    assert set(due.cases) == {"delivered", "superseded", "old-failed", "old-not-analysed"}


def test_an_arrival_is_removed_with_the_last_case_that_uses_it() -> None:
    holdings = [held("a", S.DELIVERED, 8, "x", "y"), held("b", S.DELIVERED, 1, "y")]
    due = plan_retention(holdings, came(x=8, y=8), KEEP, NOW).due
    assert due.arrivals == ("x",)
    holdings[1] = held("b", S.DELIVERED, 8, "y")
    assert plan_retention(holdings, came(x=8, y=8), KEEP, NOW).due.arrivals == ("x", "y")


def test_an_arrival_that_is_still_open_stays() -> None:
    assert plan_retention([held("a", S.DELIVERED, 8, "open")], {}, KEEP, NOW).due.arrivals == ()


def test_arrivals_without_a_case_are_removed_after_the_longer_time() -> None:
    assert plan_retention([], came(young=29, old=31), KEEP, NOW).due.arrivals == ("old",)


def test_early_removal_is_oldest_first_and_never_failed_or_unfinished() -> None:
    holdings = [
        held("c", S.DELIVERED, 1, "x"),
        held("a", S.DELIVERED, 3, "x"),
        held("b", S.NOT_ANALYSED, 2, "y"),
        held("failed", S.FAILED, 20, "z"),
        held("queued", S.QUEUED, 20, "w"),
    ]
    early = plan_retention(holdings, came(x=3, y=2, z=20, w=20), KEEP, NOW).early
    assert [(s.cases, s.arrivals) for s in early] == [(("a",), ()), (("b",), ("y",)), (("c",), ("x",))]


arrival_names = st.sampled_from("pqrst")
holdings_lists = st.lists(
    st.tuples(st.sampled_from(list(CaseState)), st.floats(0, 60), st.frozensets(arrival_names, max_size=3)), max_size=12
).map(lambda rows: [Holding(f"case{n}", state, NOW - timedelta(days=days), used) for n, (state, days, used) in enumerate(rows)])


@given(holdings_lists, st.frozensets(arrival_names), st.floats(0, 60))
def test_nothing_that_is_needed_is_removed(holdings: list[Holding], on_disk: frozenset[str], age: float) -> None:
    planned = plan_retention(holdings, dict.fromkeys(sorted(on_disk), NOW - timedelta(days=age)), KEEP, NOW)
    gone_cases: set[str] = set()
    gone_arrivals: set[str] = set()
    states = {h.case_id: h.state for h in holdings}
    for removal in (planned.due, *planned.early):
        assert not gone_cases & set(removal.cases)
        assert not gone_arrivals & set(removal.arrivals)
        gone_cases |= set(removal.cases)
        gone_arrivals |= set(removal.arrivals)
        kept = [h for h in holdings if h.case_id not in gone_cases]
        assert not gone_arrivals & {a for h in kept for a in h.arrivals}
    assert all(states[c] in ENDS for c in gone_cases)
    assert all(states[c] in REMOVABLE_EARLY for s in planned.early for c in s.cases)
    assert gone_arrivals <= on_disk
    # nothing is left behind that nothing needs
    if planned.early:
        still = {a for h in holdings if h.case_id not in gone_cases for a in h.arrivals}
        used = {a for h in holdings for a in h.arrivals}
        assert (on_disk & used) - still == gone_arrivals & used
