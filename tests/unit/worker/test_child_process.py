"""A worker's child opens its context or ends: nothing that is raised reaches Celery, which would swallow it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from billiard.pool import EX_RECYCLE
from celery.utils.dispatch import Signal
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from worker.child_process import BACKOFF, LIMIT_S, ChildContext


class Ended(BaseException):
    """The process ended here."""


class Process:
    """A child whose context opens at the nth attempt; time passes only while it sleeps."""

    def __init__(self, failures: int, set_up: Callable[[Any], object] = lambda _context: None) -> None:
        self.left, self.now, self.exit_codes, self.problems = failures, 0.0, list[int](), list[str]()
        self.context = ChildContext(
            self._open, set_up, on_problem=self.problems.append, end=self._end, sleep=self._sleep, clock=lambda: self.now
        )

    def _open(self) -> Any:
        if self.left:
            self.left -= 1
            raise OSError("the database is away")
        return "context"

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def _end(self, code: int) -> None:
        self.exit_codes.append(code)
        raise Ended

    def start(self) -> bool:
        """As Celery does; whether the process lives."""
        signal = Signal(name="started", providing_args=set())
        signal.connect(self.context.start, weak=False)
        try:
            signal.send(sender=None)
        except Ended:
            return False
        return True


@given(failures=st.integers(0, 200))
def test_a_child_has_its_context_or_has_ended(failures: int) -> None:
    process = Process(failures)
    with capture_logs() as lines:
        lives = process.start()
    assert lives == (process.exit_codes == [])
    assert process.now <= LIMIT_S + BACKOFF.longest_s
    if lives:
        assert process.context() == "context"
        assert process.left == 0
        assert len(lines) == (2 if failures else 0), "an outage is two lines: its begin and its end"
        assert [bool(why) for why in process.problems] == ([True, False] if failures else [])
    else:
        assert process.exit_codes == [EX_RECYCLE]
        assert process.now >= LIMIT_S
        assert len(lines) == 2


@pytest.mark.parametrize("error", [ValueError("the model"), SystemExit(1), MemoryError()])
def test_a_child_that_cannot_be_set_up_ends(error: BaseException) -> None:
    def set_up(_context: Any) -> None:
        raise error

    process = Process(0, set_up)
    assert not process.start()
    assert process.exit_codes == [EX_RECYCLE]
    assert process.now > 0, "not a new process every few milliseconds"


def test_a_task_in_a_child_without_a_context_ends_it() -> None:
    process = Process(0)
    with pytest.raises(Ended):
        process.context()
    assert process.exit_codes == [EX_RECYCLE]
