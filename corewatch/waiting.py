"""Cases that wait for too long: the oldest one of each state, and an alarm that begins once and ends once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from corewatch.states import PIPELINE, CaseState

CALM_PART: Final = 2
"""An alarm ends when the oldest case of its state is younger than the limit divided by this: the age may vary around the limit."""

QUEUE_FOR: Final[Mapping[CaseState, str]] = {step.before: step.queue for step in PIPELINE}
"""The queue whose worker takes a case out of this state."""


@dataclass(frozen=True, slots=True)
class WaitingCase:
    """A case that has not ended.

    Attributes
    ----------
    since
        When the last instance arrived, the case entered its state, or its delivery was planned.
    destination
        Where the delivery goes that waits longest; empty in other states than `delivering`.
    """

    case_id: str
    state: CaseState
    since: datetime
    destination: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """The cases of one state that have waited for too long: how many, and the oldest one."""

    count: int
    oldest: WaitingCase
    age: timedelta


def oldest_of_each_state(cases: Iterable[WaitingCase], now: datetime) -> dict[CaseState, Wait]:
    """The oldest case of each state in which there are cases, in the order of the states."""
    by_state: dict[CaseState, list[WaitingCase]] = {}
    for case in cases:
        by_state.setdefault(case.state, []).append(case)
    found = {}
    for state in CaseState:
        if state in by_state:
            oldest = min(by_state[state], key=lambda one: (one.since, one.case_id))
            found[state] = Wait(len(by_state[state]), oldest, max(now - oldest.since, timedelta()))
    return found


class Changes(NamedTuple):
    """Which alarms begin, and which end."""

    begun: tuple[CaseState, ...]
    over: tuple[CaseState, ...]


@dataclass(slots=True)
class WaitAlarm:
    """Which states have cases that waited for too long.

    >>> alarm, at = WaitAlarm(timedelta(minutes=8)), datetime(2026, 1, 1)
    >>> old = {CaseState.QUEUED: Wait(1, WaitingCase("a", CaseState.QUEUED, at), timedelta(minutes=9))}
    >>> [state.value for state in alarm.observe(old).begun], [state.value for state in alarm.observe(old).begun]
    (['queued'], [])
    >>> [state.value for state in alarm.observe({}).over]
    ['queued']
    """

    limit: timedelta
    active: set[CaseState] = field(default_factory=set)

    def observe(self, waits: Mapping[CaseState, Wait]) -> Changes:
        """Record the present waits; returns what changes."""
        begun = tuple(s for s, wait in waits.items() if s not in self.active and wait.age >= self.limit)
        over = tuple(s for s in CaseState if s in self.active and (s not in waits or waits[s].age < self.limit / CALM_PART))
        self.active = (self.active | set(begun)) - set(over)
        return Changes(begun, over)
