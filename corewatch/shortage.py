"""Disk shortage with hysteresis: reported once, and again only after it was over."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from corewatch.units import MIB

NEARLY: Final = 16 * MIB
"""Bytes above the reserve that count as short already. The listener requests space for the next part of an instance, at most half
of this, and refuses where the reserve would be touched: so free space stays just above the reserve."""

LEAST_GAP: Final = 64 * MIB
PART_OF_RESERVE: Final = 10
"""A shortage ends a tenth of the reserve above its beginning, at least `LEAST_GAP`: removing one case does not end it."""

CALM_S: Final = 600.0
"""Seconds of enough free space, without interruption, after which a shortage is over."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """State of the disk.

    Attributes
    ----------
    short
        A shortage has begun and is not over.
    told
        Somebody has been notified.
    enough_since
        Since when there has been enough free space again (seconds of the caller's clock); None where there is not.
    """

    short: bool = False
    told: bool = False
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
            return Shortage(short=True, told=self.told)
        if not self.short:
            return self
        if free < enough_from(reserve):
            return replace(self, enough_since=None)
        if self.enough_since is None:
            return replace(self, enough_since=now)
        return Shortage() if now - self.enough_since >= CALM_S else self

    @property
    def must_tell(self) -> bool:
        """Whether somebody must be notified."""
        return self.short and not self.told

    def after_telling(self) -> Shortage:
        """State after somebody was notified."""
        return replace(self, told=True)


def short_below(reserve: int) -> int:
    """Free bytes below which a shortage begins."""
    return reserve + NEARLY


def enough_from(reserve: int) -> int:
    """Free bytes from which a shortage may end."""
    return short_below(reserve) + max(LEAST_GAP, reserve // PART_OF_RESERVE)
