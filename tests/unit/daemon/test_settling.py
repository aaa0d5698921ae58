from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from daemon.watch.settling import Observation, StabilityTracker


def seen(**signatures: object) -> dict[str, Observation]:
    return {name: Observation(str(signature), 2.0) for name, signature in signatures.items()}


def test_a_drop_settles_after_staying_unchanged() -> None:
    tracker = StabilityTracker()
    assert tracker.observe(100.0, seen(a=1)) == frozenset()
    assert tracker.observe(101.9, seen(a=1)) == frozenset()
    assert tracker.observe(102.0, seen(a=1)) == {"a"}


def test_every_change_restarts_the_wait() -> None:
    tracker = StabilityTracker()
    tracker.observe(0, seen(a=1))
    tracker.observe(1.9, seen(a=2))
    assert tracker.observe(3.8, seen(a=2)) == frozenset()
    assert tracker.observe(3.9, seen(a=2)) == {"a"}


def test_a_drop_that_was_gone_restarts_the_wait() -> None:
    tracker = StabilityTracker()
    tracker.observe(0, seen(a=1))
    tracker.observe(1, seen())
    assert tracker.observe(2, seen(a=1)) == frozenset()


def test_restart() -> None:
    tracker = StabilityTracker()
    tracker.observe(0, seen(a=1))
    assert tracker.observe(2, seen(a=1)) == {"a"}
    tracker.restart("a", 2)
    tracker.restart("unknown", 2)
    assert tracker.observe(3, seen(a=1)) == frozenset()
    assert tracker.unchanged_for("a", 3) == 1
    assert tracker.observe(4, seen(a=1)) == {"a"}


def test_each_drop_has_its_own_settle_time() -> None:
    tracker = StabilityTracker()
    both = {"quick": Observation(1, 0.0), "slow": Observation(1, 60.0)}
    assert tracker.observe(0, both) == {"quick"}
    assert tracker.observe(59, both) == {"quick"}
    assert tracker.observe(60, both) == {"quick", "slow"}


@given(
    steps=st.lists(st.tuples(st.floats(0, 3), st.none() | st.integers(0, 2)), min_size=1, max_size=30),
    settle=st.floats(0.1, 5),
)
def test_settled_means_unchanged_for_the_whole_time(steps: list[tuple[float, int | None]], settle: float) -> None:
    tracker, now = StabilityTracker(), 0.0
    history: list[tuple[float, int | None]] = []
    for wait, signature in steps:
        now += wait
        history.append((now, signature))
        observed = {} if signature is None else {"a": Observation(signature, settle)}
        settled = "a" in tracker.observe(now, observed)
        run = now
        for moment, value in reversed(history):
            if value != signature:
                break
            run = moment
        assert settled == (signature is not None and now - run >= settle)
