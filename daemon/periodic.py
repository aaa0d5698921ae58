"""The parts of the program, each in a thread of its own: one that fails is logged and goes on, and never stops the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime

import structlog

from corewatch.clock import Clock, utc_now

log = structlog.get_logger()

SHORTEST_PAUSE_S = 0.01
"""Between two steps of a part that always has something due."""

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0
"""Wait after a failed step: doubles from the first to the longest."""


class Part:
    """Calls `step` again and again.

    Parameters
    ----------
    name
        For the log.
    step
        Does what there is to do now.
    interval_s
        Longest pause between two steps; `wake` ends it early.
    due_in_s
        Asked after each step: how long until the next thing is due. A shorter answer than `interval_s` shortens the pause.
    after
        Woken after each step of this part that has returned something true.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[datetime], object],
        interval_s: float,
        *,
        due_in_s: Callable[[datetime], float] | None = None,
        after: Part | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self.name = name
        self._step = step
        self._interval_s = interval_s
        self._due_in_s = due_in_s
        self._after = after
        self._clock = clock
        self._wake = threading.Event()
        self._stopping = False
        self._failures = 0
        self._busy_since_s: float | None = None
        # a step that hangs must not keep the program from ending; every step may be interrupted anywhere
        self._thread = threading.Thread(target=self._run, name=f"daemon-{name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Take the next step now."""
        self._wake.set()

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def busy_for_s(self, now_s: float) -> float:
        """Seconds that the present step has taken at this moment of the monotonic clock; 0 between two steps."""
        since = self._busy_since_s
        return 0.0 if since is None else now_s - since

    def ask_to_stop(self) -> None:
        """Take no further step."""
        self._stopping = True
        self._wake.set()

    def join(self, timeout_s: float) -> bool:
        """Wait until the present step has ended; returns whether it has."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping:
            pause = self._once()
            self._wake.wait(pause)
            self._wake.clear()

    def _once(self) -> float:
        """One step; returns the pause after it in seconds."""
        self._busy_since_s = time.monotonic()
        try:
            done = self._step(self._clock())
        except Exception:
            self._failures += 1
            pause = min(FIRST_WAIT_S * 2.0 ** min(self._failures - 1, 16), LONGEST_WAIT_S)
            log.exception("a part of the daemon failed; it goes on", part=self.name, failures=self._failures, again_in_s=pause)
            return pause
        finally:
            self._busy_since_s = None
        if self._failures:
            log.info("a part of the daemon works again", part=self.name, after_failures=self._failures)
            self._failures = 0
        if done and self._after is not None:
            self._after.wake()
        if self._due_in_s is None:
            return self._interval_s
        return min(max(self._due_in_s(self._clock()), SHORTEST_PAUSE_S), self._interval_s)
