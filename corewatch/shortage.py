"""When a shortage of disk is one shortage: told once, and again only after it was over and has come back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from corewatch.units import MIB

NEARLY: Final = 16 * MIB
"""The listener asks for room for the next part of an image, at most half of this: free space comes to rest just above the reserve,
not below it. This much above it counts as short already."""

LEAST_GAP: Final = 64 * MIB
PART_OF_RESERVE: Final = 10
"""Between short and enough lies a tenth of the reserve, at least `LEAST_GAP`: one case removed ends no shortage."""

CALM_S: Final = 600.0
"""There must be enough for so long, without a break, before the shortage is over."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """What is known of the disk.

    Attributes
    ----------
    short
        A shortage has begun and is not over.
    told
        Somebody knows of it.
    enough_since
        Since when there has been enough again (seconds of the caller's clock); None: there is not.
    """

    short: bool = False
    told: bool = False
    enough_since: float | None = None

    def observe(self, free: int, reserve: int, now: float) -> Shortage:
        """What is known after one more look.

        Parameters
        ----------
        free, reserve
            Bytes.
        now
            Seconds of a clock that is never set.
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
        """Whether nobody knows yet."""
        return self.short and not self.told

    def after_telling(self) -> Shortage:
        """Somebody was told."""
        return replace(self, told=True)


def short_below(reserve: int) -> int:
    """Free bytes below which a shortage begins."""
    return reserve + NEARLY


def enough_from(reserve: int) -> int:
    """Free bytes from which it may end."""
    return short_below(reserve) + max(LEAST_GAP, reserve // PART_OF_RESERVE)
