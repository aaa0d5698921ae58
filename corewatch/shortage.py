"""Disk shortage with hysteresis: reported once, and again only after it was over."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from corewatch.units import MIB

SHORT_MARGIN: Final = 16 * MIB
"""Bytes above the reserve that count as short already. The listener requests space for the next part of an instance, at most half
of this, and refuses where the reserve would be touched: so free space stays just above the reserve."""

MINIMUM_HYSTERESIS: Final = 64 * MIB
RESERVE_PER_HYSTERESIS: Final = 10
"""A shortage ends a tenth of the reserve above its beginning, at least `MINIMUM_HYSTERESIS`: removing one case does not end it."""

RECOVERY_S: Final = 600.0
"""Seconds of enough free space, without interruption, after which a shortage is over."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """State of the disk.

    Attributes
    ----------
    short
        A shortage has begun and is not over.
    notified
        Somebody has been notified.
    enough_since
        Since when there has been enough free space again (seconds of the caller's clock); None where there is not.
    """

    short: bool = False
    notified: bool = False
    enough_since: float | None = None

    def observe(self, free: int, reserve: int, now: float) -> Shortage:
        """State after one more measurement.

        Parameters
        ----------
        free, reserve
            Bytes.
        now
            Seconds of a monotonic clock.
        """
        if free < short_below(reserve):
            return Shortage(short=True, notified=self.notified)
        if not self.short:
            return self
        if free < enough_from(reserve):
            return replace(self, enough_since=None)
        if self.enough_since is None:
            return replace(self, enough_since=now)
        return Shortage() if now - self.enough_since >= RECOVERY_S else self

    @property
    def must_notify(self) -> bool:
        """Whether somebody must be notified."""
        return self.short and not self.notified

    def after_notifying(self) -> Shortage:
        """State after somebody was notified."""
        return replace(self, notified=True)


def short_below(reserve: int) -> int:
    """Free bytes below which a shortage begins."""
    return reserve + SHORT_MARGIN


def enough_from(reserve: int) -> int:
    """Free bytes from which a shortage may end."""
    return short_below(reserve) + max(MINIMUM_HYSTERESIS, reserve // RESERVE_PER_HYSTERESIS)
