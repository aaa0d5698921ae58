"""Components of the daemon: each in its own thread, started in the order of its requirements and stopped in reverse."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from graphlib import TopologicalSorter
from typing import Protocol

import structlog

from corewatch.clock import Clock, utc_now
from foundation.backoff import Backoff, RetryTimer
from foundation.outages import OutageTracker
from ledger.database import unavailable

log = structlog.get_logger()

MIN_PAUSE_S = 0.01
"""Between two steps of a component that always has something due."""

BACKOFF = Backoff(0.5, 60.0)
"""Pauses after failed steps."""

_DATABASE = OutageTracker()
"""Whether the database answers: every component of the program notices an outage, and one line says it."""

HUNG_AFTER_S = 900.0
"""A step that takes longer hangs. What it has done is committed, so that restarting the program loses nothing."""

STOP_TIMEOUT_S = 30.0
"""Longest wait for the step that a component is executing at the end. The next start repeats what was not finished."""


class Component(Protocol):
    """A part of the daemon with its own threads."""

    @property
    def name(self) -> str:
        """For the log, and for `requires` of others."""

    @property
    def requires(self) -> Sequence[str]:
        """Names of the components that are started before this one and stopped after it."""

    def start(self) -> None:
        """Start the threads."""

    def request_stop(self) -> None:
        """Let the threads end after their present step."""

    def join(self, timeout_s: float) -> bool:
        """Wait for the end of the threads; returns whether they have ended."""

    def is_working(self, now_s: float) -> bool:
        """Whether the threads run and no step hangs at this time of the monotonic clock."""


class PeriodicThread:
    """Calls `step` periodically in its own thread. A step that fails is logged and retried; other components are not affected.

    Parameters
    ----------
    name
        For the log.
    step
        Does what is to be done now; returns something true when it has done anything.
    interval_s
        Longest pause between two steps; `wake` ends it early.
    due_in_s
        Called after each step: seconds until the next thing is due. A value below `interval_s` shortens the pause.
    wakes
        Component that is woken after each step that has done something.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[datetime], object],
        interval_s: float,
        *,
        due_in_s: Callable[[datetime], float] | None = None,
        wakes: PeriodicThread | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self.name = name
        self.requires = () if wakes is None else (wakes.name,)
        self._step = step
        self._interval_s = interval_s
        self._due_in_s = due_in_s
        self._wakes = wakes
        self._clock = clock
        self._wake = threading.Event()
        self._stopping = False
        self._retry = RetryTimer(BACKOFF)
        self._without_database = False
        self._busy_since_s: float | None = None
        # a daemon thread: a step that hangs must not keep the program from ending, and every step may be interrupted anywhere
        self._thread = threading.Thread(target=self._run, name=f"daemon-{name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Execute the next step now."""
        self._wake.set()

    def is_working(self, now_s: float) -> bool:
        """Whether the thread runs and its step does not hang at this time of the monotonic clock."""
        since = self._busy_since_s
        return self._thread.is_alive() and (since is None or now_s - since <= HUNG_AFTER_S)

    def request_stop(self) -> None:
        """Execute no further step."""
        self._stopping = True
        self._wake.set()

    def join(self, timeout_s: float) -> bool:
        """Wait until the present step has ended; returns whether it has."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping:
            pause = self._step_once()
            self._wake.wait(pause)
            self._wake.clear()

    def _step_once(self) -> float:
        """One step; returns the pause after it in seconds."""
        self._busy_since_s = time.monotonic()
        try:
            done = self._step(self._clock())
        except Exception as error:
            pause = self._retry.failed(time.monotonic())
            if (why := unavailable(error)) is not None:
                self._without_database = True
                if _DATABASE.failed():
                    log.error("database_unavailable", why=why, effect="nothing is lost; everything is retried")
                return pause
            log.exception("component_failed", component=self.name, failures=self._retry.failures, retry_in_s=pause)
            return pause
        finally:
            self._busy_since_s = None
        failures = self._retry.succeeded()
        if self._without_database:
            self._without_database = False
            if _DATABASE.recovered():
                log.info("database_recovered")
        elif failures:
            log.info("component_recovered", component=self.name, after_failures=failures)
        if done and self._wakes is not None:
            self._wakes.wake()
        if self._due_in_s is None:
            return self._interval_s
        return min(max(self._due_in_s(self._clock()), MIN_PAUSE_S), self._interval_s)


class Components:
    """All components of the program, in the order of their requirements.

    Raises
    ------
    graphlib.CycleError, KeyError
        Requirements are circular, or name an unknown component.
    """

    def __init__(self, components: Sequence[Component]) -> None:
        by_name = {component.name: component for component in components}
        order = TopologicalSorter({component.name: component.requires for component in components}).static_order()
        self._in_order = [by_name[name] for name in order]
        self._started: list[Component] = []
        self._outages = OutageTracker()

    def start(self) -> None:
        """Start every component after those that it requires."""
        for component in self._in_order:
            component.start()
            self._started.append(component)

    def stop(self) -> None:
        """Stop what was started, in reverse order."""
        in_reverse = self._started[::-1]
        for component in in_reverse:
            component.request_stop()
        for component in in_reverse:
            if not component.join(STOP_TIMEOUT_S):
                log.error("component_not_stopped", component=component.name, waited_s=STOP_TIMEOUT_S)

    def are_working(self, now_s: float) -> bool:
        """Whether every component works at this time of the monotonic clock. One that does not is logged once."""
        not_working = {component.name for component in self._in_order if not component.is_working(now_s)}
        for name in self._outages.observe(not_working).begun:
            log.error("component_hangs", component=name, effect="under systemd the daemon is restarted")
        return not not_working
