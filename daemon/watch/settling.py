"""Drop stability and grouping: which drops are written completely, and which of them become one arrival. Pure decisions.

File systems do not say when a file is complete, NFS and SMB least of all. So a drop counts as settled once sizes and modification
times of all its files have stayed the same for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence, Set
from dataclasses import dataclass

from daemon.watch.content import ALIGNED_SUFFIX
from daemon.watch.recipients import side_car_of
from daemon.watch.scan import Drop


@dataclass(frozen=True, slots=True)
class Observation:
    """State of one drop at one scan.

    Attributes
    ----------
    signature
        Changes whenever the drop does: sizes and modification times of all its files.
    settle_s
        Seconds for which the signature must stay the same.
    """

    signature: Hashable
    settle_s: float


class StabilityTracker:
    """Remembers since when each drop has been unchanged."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[Hashable, float]] = {}

    def observe(self, now: float, seen: Mapping[str, Observation]) -> frozenset[str]:
        """Return the keys of `seen` that have been unchanged for their `settle_s`; keys that are gone are forgotten.

        Parameters
        ----------
        now
            Seconds of a monotonic clock.
        """
        since: dict[str, tuple[Hashable, float]] = {}
        for key, observation in seen.items():
            before = self._since.get(key)
            unchanged = before is not None and before[0] == observation.signature
            since[key] = before if before is not None and unchanged else (observation.signature, now)
        self._since = since
        return frozenset(key for key, (_, start) in since.items() if now - start >= seen[key].settle_s)

    def restart(self, key: str, now: float) -> None:
        """Count again from `now`, as if the drop had just changed."""
        if key in self._since:
            self._since[key] = (self._since[key][0], now)

    def unchanged_for(self, key: str, now: float) -> float:
        """Seconds for which a drop of the last observation has been unchanged."""
        return now - self._since[key][1]


DropGroup = Sequence[Drop]
"""Drops that become one arrival."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """Groups to ingest now, and whether any drop still waits."""

    groups: tuple[DropGroup, ...]
    waiting: bool


def is_loose(drop: Drop) -> bool:
    """Whether it is one of possibly many files of one series; archives and aligned heads are complete in themselves."""
    return not drop.is_folder and not drop.name.lower().endswith((".zip", ALIGNED_SUFFIX))


def group_settled(drops: Sequence[Drop], settled: Set[str], unchanged_for: Callable[[str], float], max_wait_s: float) -> Grouping:
    """Decide which drops are ingested now, and which of them together.

    A folder, a zip or an aligned head is ingested by itself, together with the recipients file beside it, for which it waits (see
    `daemon.watch.recipients`). Loose files wait for each other, so that a series copied file by file becomes one arrival.

    Parameters
    ----------
    settled
        Names of the settled drops.
    unchanged_for
        Seconds for which a drop has been unchanged.
    max_wait_s
        Loose files wait no longer than this for others that are still being written.
    """
    names = {d.name for d in drops}
    beside: dict[str, Drop] = {}
    for drop in drops:
        owner = side_car_of(drop.name)
        if owner in names and not drop.is_folder:
            beside[owner] = drop
    side_cars = {car.name for car in beside.values()}
    owners = [d for d in drops if d.name not in side_cars]
    together = {d.name: (d, beside[d.name]) if d.name in beside else (d,) for d in owners}
    ready = [d for d in owners if all(part.name in settled for part in together[d.name])]
    waiting = len(ready) < len(owners)
    groups: list[DropGroup] = [together[d.name] for d in ready if not is_loose(d)]
    loose = [part for d in ready if is_loose(d) for part in together[d.name]]
    others_follow = any(is_loose(d) and not d.unfinished and d.name not in settled for d in drops)
    if loose and others_follow and max(unchanged_for(d.name) for d in loose) < max_wait_s:
        return Grouping(tuple(groups), waiting=True)
    return Grouping((*groups, tuple(loose)) if loose else tuple(groups), waiting)
