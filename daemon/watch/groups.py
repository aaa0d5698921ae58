"""Which of the drops that have settled are taken together: pure decisions on names."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass

from daemon.watch.content import ALIGNED_SUFFIX
from daemon.watch.recipients import side_car_of
from daemon.watch.scan import Drop

Group = Sequence[Drop]
"""Drops that become one arrival."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Groups to take now, and whether any drop still waits."""

    groups: tuple[Group, ...]
    waiting: bool


def is_loose(drop: Drop) -> bool:
    """Whether it is one of possibly many files of one series; archives and aligned heads are complete in themselves."""
    return not drop.is_folder and not drop.name.lower().endswith((".zip", ALIGNED_SUFFIX))


def group(drops: Sequence[Drop], settled: Set[str], still_for: Callable[[str], float], patience_s: float) -> Plan:
    """Plan what is taken now.

    A folder, a zip or an aligned head is taken by itself, together with the recipients file beside it (see
    `daemon.watch.recipients`),
    which is waited for. Loose files wait for each other, so that a series copied file by file becomes one arrival; but not
    for ever.

    Parameters
    ----------
    settled
        Names of those that stand still for as long as they must.
    still_for
        Seconds for which a drop has stood still.
    patience_s
        Loose files wait no longer than this for others that are still being written.
    """
    names = {d.name for d in drops}
    beside: dict[str, Drop] = {}
    for drop in drops:
        owner = side_car_of(drop.name)
        if owner in names and not drop.is_folder:
            beside[owner] = drop
    cars = {car.name for car in beside.values()}
    own = [d for d in drops if d.name not in cars]
    together = {d.name: (d, beside[d.name]) if d.name in beside else (d,) for d in own}
    ready = [d for d in own if all(part.name in settled for part in together[d.name])]
    waiting = len(ready) < len(own)
    groups: list[Group] = [together[d.name] for d in ready if not is_loose(d)]
    loose = [part for d in ready if is_loose(d) for part in together[d.name]]
    others_come = any(is_loose(d) and not d.unfinished and d.name not in settled for d in drops)
    if loose and others_come and max(still_for(d.name) for d in loose) < patience_s:
        return Plan(tuple(groups), waiting=True)
    return Plan((*groups, tuple(loose)) if loose else tuple(groups), waiting)
