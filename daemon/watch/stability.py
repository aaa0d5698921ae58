"""When is a dropped file written? A pure decision, since file systems do not tell (least of all NFS and SMB)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen of one drop.

    Attributes
    ----------
    signature
        Changes whenever the drop does: sizes and times of change of all its files.
    settle_s
        For how long the signature must stand still.
    """

    signature: Hashable
    settle_s: float


class StabilityTracker:
    """Remembers since when each drop has stood still."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[Hashable, float]] = {}

    def observe(self, now: float, seen: Mapping[str, Observation]) -> frozenset[str]:
        """Return the keys of `seen` that have stood still for their `settle_s`; keys that are gone are forgotten.

        Parameters
        ----------
        now
            Seconds of a clock that never goes back.
        """
        since: dict[str, tuple[Hashable, float]] = {}
        for key, observation in seen.items():
            before = self._since.get(key)
            unchanged = before is not None and before[0] == observation.signature
            since[key] = before if before is not None and unchanged else (observation.signature, now)
        self._since = since
        return frozenset(key for key, (_, start) in since.items() if now - start >= seen[key].settle_s)

    def restart(self, key: str, now: float) -> None:
        """Count anew from `now`, as if the drop had just changed."""
        if key in self._since:
            self._since[key] = (self._since[key][0], now)

    def still_for(self, key: str, now: float) -> float:
        """Seconds for which a drop of the last observation has stood still."""
        return now - self._since[key][1]
