"""When is a series complete? DICOM has no mark for its end, so this weighs what can be seen.

Signs, strongest first:

1. Nothing new for `idle_s`: complete, whatever it looks like. A series never waits for ever, and what comes later makes a new
   revision.
2. As many instances as Number of Series Related Instances (0020,1209) says, forming a regular stack: complete after `grace_s`,
   even while the association goes on with other series.
3. All associations released and the stack regular, without a gap: complete after `grace_s`. Not so where the sender aborted an
   association (it will try again), has another one open (the rest may be on it), or brought this series over several
   associations one after another (it may open the next): then only 1 and 2 count.

The caller passes the clock and asks again whenever an instance arrives, an association ends, or `Wait.until` is reached.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from corewatch.instance import Instance
from corewatch.stack import analyse


@dataclass(frozen=True, slots=True)
class Complete:
    """No more instances are expected."""

    why: str


@dataclass(frozen=True, slots=True)
class Wait:
    """More may come: ask again at `until` at the latest, sooner when anything has changed."""

    until: datetime
    why: str


@dataclass(frozen=True, slots=True)
class Passage:
    """One association that brought instances of the series, or one of the same sender that may still bring some.

    Attributes
    ----------
    closed_at
        None while it is open.
    aborted
        It ended without a release.
    carried
        It brought at least one instance of the series.
    """

    opened_at: datetime
    closed_at: datetime | None
    aborted: bool = False
    carried: bool = True


@dataclass(frozen=True, slots=True)
class Passages:
    """What the associations of a series say, taken together (see `weigh`)."""

    open_arrivals: bool
    aborted: bool
    one_after_another: bool


def weigh(passages: Iterable[Passage]) -> Passages:
    """Sum up the associations of a series.

    An abort is made good by an association that began after it, brought instances and was released. Two associations that both
    brought instances and were released count as one after another unless they overlapped: a sender with parallel associations opens
    them all at the beginning, one with an association per image or per batch does not.
    """
    known = list(passages)
    released = [p for p in known if p.carried and p.closed_at is not None and not p.aborted]
    failed = [p.closed_at for p in known if p.carried and p.closed_at is not None and p.aborted]
    latest_start = max((p.opened_at for p in released), default=None)
    first_end = min((p.closed_at for p in released if p.closed_at is not None), default=None)
    return Passages(
        open_arrivals=any(p.closed_at is None for p in known),
        aborted=any(latest_start is None or latest_start < at for at in failed),
        one_after_another=latest_start is not None and first_end is not None and first_end < latest_start,
    )


def decide(
    instances: Sequence[Instance],
    *,
    last_stored_at: datetime,
    open_arrivals: bool,
    aborted: bool,
    now: datetime,
    idle_s: float,
    grace_s: float,
    one_after_another: bool = False,
) -> Complete | Wait:
    """Decide whether a series is complete.

    Parameters
    ----------
    instances
        What has arrived, each SOP instance once, in any order.
    last_stored_at
        When the last file of this series was stored, repeated ones included: a sender that repeats is at work.
    open_arrivals
        An association that brought this series, or any from the same sender, is still open.
    aborted
        An association that brought this series was aborted, and no later one has made up for it.
    now
        The present moment.
    idle_s, grace_s
        Quiet time after which a series counts as complete in any case, and when nothing speaks against it.
    one_after_another
        The series came over several associations in sequence.
    """
    quiet = now - last_stored_at
    idle, grace = timedelta(seconds=idle_s), timedelta(seconds=min(grace_s, idle_s))
    if quiet >= idle:
        return Complete(f"nothing new for {idle_s:g} s")

    expected = max((i.instances_in_series for i in instances if i.instances_in_series is not None), default=None)
    if expected is not None and len(instances) < expected:
        return Wait(last_stored_at + idle, f"{len(instances)} of {expected} instances are here")
    regular = looks_whole(instances)
    everything_promised = regular and expected is not None
    if not everything_promised:
        objection = _objection(regular, open_arrivals, aborted, one_after_another)
        if objection is not None:
            return Wait(last_stored_at + idle, objection)
    if quiet < grace:
        return Wait(last_stored_at + grace, "it looks complete; a moment's grace")
    return Complete(f"all {expected} instances are here" if everything_promised else "released, and the stack has no gap")


def looks_whole(instances: Sequence[Instance]) -> bool:
    """Whether nothing in the headers says that a slice is missing: a regular stack, or multi-frame objects, whole by themselves."""
    if instances and all(i.frames > 1 for i in instances):
        return True
    stack = analyse(instances)
    return stack is not None and stack.regular


def _objection(regular: bool, open_arrivals: bool, aborted: bool, one_after_another: bool) -> str | None:
    """The first sign that more may come."""
    if open_arrivals:
        return "the sender still has an association open"
    if aborted:
        return "the sender's association was aborted; it may try again"
    if one_after_another:
        return "the sender brings the series in parts, one association after another"
    if not regular:
        return "the slices do not form a stack without gaps"
    return None
