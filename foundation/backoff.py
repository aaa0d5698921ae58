"""Retry and back-off: how long to wait after a failure, and whether the wait is over.

Nothing here sleeps or reads a clock: the caller passes the time in. Times of day are guarded: a clock that was set back makes no
wait longer than the longest one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

Moment = float | datetime
"""Seconds of a monotonic clock, or a time of day; a timer uses one of them throughout."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off between two limits, in seconds.

    Attributes
    ----------
    first_s
        Wait after the first failure.
    longest_s
        Longest wait; infinity for no limit.

    >>> [Backoff(1, 10).delay_s(failures) for failures in (1, 2, 3, 4, 5)]
    [1.0, 2.0, 4.0, 8.0, 10]
    >>> [Backoff(1, 10).delay_after_s(tried) for tried in (0, 1, 3, 7, 3600)]
    [1, 1, 3, 7, 10]
    """

    first_s: float
    longest_s: float = math.inf

    @classmethod
    def constant(cls, seconds: float) -> Backoff:
        """The same wait after every failure."""
        return cls(seconds, seconds)

    def delay_s(self, failures: int) -> float:
        """Wait after this many failures in a row (1 or more): doubles with each of them."""
        exponent = min(failures - 1, 64)  # months of failures must not overflow a float
        return min(self.first_s * 2.0**exponent, self.longest_s)

    def delay_after_s(self, tried_s: float) -> float:
        """Wait after a failure when the first attempt was `tried_s` ago: as long again, so each wait is about twice the last.

        For attempts that several processes make: it needs no count of them, and a restart does not reset it.
        """
        return min(max(self.first_s, tried_s), self.longest_s)


class RetryTimer:
    """When to try something again after failures in a row.

    >>> timer = RetryTimer(Backoff(5, 60))
    >>> timer.is_due(100.0)
    True
    >>> timer.failed(100.0)
    5.0
    >>> timer.is_due(104.0), timer.is_due(105.0)
    (False, True)
    >>> timer.succeeded()
    1
    """

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._not_before: Moment | None = None
        self._since: Moment | None = None
        self.failures = 0
        """Failures in a row."""

    def is_due(self, now: Moment) -> bool:
        """Whether the wait is over, or there is none."""
        return self._not_before is None or not is_waiting(self._not_before, now, self._backoff.longest_s)

    def failed(self, now: Moment) -> float:
        """Count a failure; returns the wait after it in seconds."""
        self.failures += 1
        self._since = now if self._since is None else self._since
        delay_s = self._backoff.delay_s(self.failures)
        self._not_before = _seconds(now) + delay_s
        return delay_s

    def failing_for_s(self, now: Moment) -> float:
        """Seconds since the first of the failures; 0 while there are none."""
        return 0.0 if self._since is None else _seconds(now) - _seconds(self._since)

    def succeeded(self) -> int:
        """End the failures; returns how many there were in a row: not zero means that it works again."""
        before, self.failures, self._since, self._not_before = self.failures, 0, None, None
        return before


def is_waiting(until: Moment, now: Moment, longest_s: float) -> bool:
    """Whether a wait until `until` is not over.

    A wait that would last longer than the longest one is over: the clock was set back meanwhile.
    """
    end, start = _seconds(until), _seconds(now)
    return start < end <= start + longest_s  # not as a difference: its rounding could exceed the longest wait


def _seconds(moment: Moment) -> float:
    return moment.timestamp() if isinstance(moment, datetime) else moment
