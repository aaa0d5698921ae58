"""Whether the system's clock was set: the time of day is compared with a clock that nobody can set.

Leases, waits and idle times are differences of times of day, since they outlive the program. When the clock is set they mean
nothing: images that came a second ago would be an hour old, and a lease that has just begun would be over.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

TOLERANCE = timedelta(seconds=2)
"""A time service that keeps a clock moves it by less between two looks."""

NONE = timedelta(0)


class ClockWatch:
    """Compares two clocks.

    Parameters
    ----------
    monotonic
        Seconds of a clock that is never set. One that stands still while the machine sleeps shows the sleep as a jump, which is
        what it is for everybody who was to be waited for.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._before: tuple[datetime, float] | None = None

    def observe(self, now: datetime) -> timedelta:
        """How far the time of day was set since the last call: positive is forward, zero means that it was not."""
        tick = self._monotonic()
        before, self._before = self._before, (now, tick)
        if before is None:
            return NONE
        jump = (now - before[0]) - timedelta(seconds=tick - before[1])
        return jump if abs(jump) > TOLERANCE else NONE
