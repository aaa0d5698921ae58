"""When a program that ended is started again: the policy, without the processes."""

from __future__ import annotations

from typing import Final

FIRST_DELAY_S: Final = 1.0
"""Wait before the first restart; doubles with each failure that follows."""

LONGEST_DELAY_S: Final = 60.0
"""It never waits longer: whatever was wrong, the program is back a minute after it was put right."""

HEALTHY_AFTER_S: Final = 60.0
"""A program that ran for so long is healthy: what happened before is forgotten."""


def failures_after_exit(failures: int, ran_s: float) -> int:
    """Failures in a row, this one included, of a program that ended after `ran_s` seconds and had `failures` before."""
    return 1 if ran_s >= HEALTHY_AFTER_S else failures + 1


def restart_delay_s(failures: int) -> float:
    """Seconds to wait after so many failures in a row (1 or more)."""
    # the exponent is capped, so that a program that fails for weeks does not overflow a float
    return min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(failures - 1, 16))
