"""Detects that the system clock was set, by comparing it with the monotonic clock.

Leases, retries and idle times are differences of times of day, since they outlive the program. After the clock was set they are
wrong: an image received a second ago would be an hour old, and a new lease would be over. `ledger/clock_shift.py` corrects them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

TOLERANCE = timedelta(seconds=2)
"""Adjustments by a time service (NTP) between two calls are smaller than this."""

NONE = timedelta(0)
"""The clock was not set."""


class ClockWatch:
    """Compares the time of day with a monotonic clock.

    Parameters
    ----------
    monotonic
        Seconds of a monotonic clock. If it stops while the machine sleeps, the sleep is reported as a jump, as it should be:
        nobody could send anything meanwhile.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._before: tuple[datetime, float] | None = None

    def observe(self, now: datetime) -> timedelta:
        """How far the clock was set since the last call: positive is forward, `NONE` means not at all."""
        tick = self._monotonic()
        before, self._before = self._before, (now, tick)
        if before is None:
            return NONE
        jump = (now - before[0]) - timedelta(seconds=tick - before[1])
        return jump if abs(jump) > TOLERANCE else NONE
