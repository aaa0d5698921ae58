"""Log once: an outage is logged when it begins and when it is over, not with every failure in between."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import NamedTuple


class Changes(NamedTuple):
    """What to log: which outages have begun, and which are over."""

    begun: list[str]
    over: list[str]


class OutageTracker:
    """Which of several things fail at present. Safe for use by several threads.

    Each method answers whether the caller should log; the caller writes the line, with its own event and fields. One thing needs no
    key.

    Parameters
    ----------
    quiet_s
        An outage that begins this soon after another one of the same thing was logged is not logged, and neither is its end, unless
        it lasts longer: a thing that fails and recovers by turns must not fill the log.

    >>> tracker = OutageTracker()
    >>> tracker.failed("MAIN"), tracker.failed("MAIN"), tracker.failed("ARCHIVE")
    (True, False, True)
    >>> tracker.recovered("MAIN"), tracker.recovered("MAIN")
    (True, False)
    """

    def __init__(self, quiet_s: float = 0.0) -> None:
        self._quiet_s = quiet_s
        self._lock = threading.Lock()
        self._failing: dict[str, bool] = {}  # whether the outage was logged
        self._logged_at: dict[str, float] = {}

    def failed(self, key: str = "", now: float = 0.0) -> bool:
        """Record a failure; whether to log it. `now` in seconds of a monotonic clock, needed only with `quiet_s`."""
        with self._lock:
            if self._failing.get(key):
                return False
            log = now - self._logged_at.get(key, float("-inf")) >= self._quiet_s
            self._failing[key] = log
            if log and self._quiet_s:
                self._logged_at[key] = now
            return log

    def recovered(self, key: str = "") -> bool:
        """Record a success; whether to log that an outage is over."""
        if key not in self._failing:  # the usual case needs no lock
            return False
        with self._lock:
            return self._failing.pop(key, False)

    def observe(self, failing: Iterable[str], now: float = 0.0) -> Changes:
        """Record everything that fails at present, and that nothing else does."""
        current = set(failing)
        over = sorted(set(self._failing) - current)
        return Changes([key for key in sorted(current) if self.failed(key, now)], [key for key in over if self.recovered(key)])
