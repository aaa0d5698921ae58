"""When is a series complete? DICOM has no mark for its end, so this weighs what can be seen.

Signs, strongest first:

1. Nothing new for `idle_s`: complete, whatever it looks like, unless fewer instances are here than were promised and an association
   that may bring the rest goes on; then it is complete after `short_wait_s`. A series never waits for ever, and what comes later
   makes a new revision.
2. As many instances as promised, forming a regular stack: complete after `grace_s`, even while the association goes on with other
   series. The promise is Number of Series Related Instances (0020,1209) in the images, or what the sending PACS answered to a
   C-FIND; the larger number counts, since a PACS that is still receiving the series itself knows of too few.
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
from corewatch.slice_stack import find_stack


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
class Transfer:
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
class TransferSummary:
    """What the associations of a series say, taken together (see `summarise`)."""

    open_arrivals: bool
    aborted: bool
    one_after_another: bool


def summarise(transfers: Iterable[Transfer]) -> TransferSummary:
    """Sum up the associations of a series.

    An abort is made good by an association that began after it, brought instances and was released. Two associations that both
    brought instances and were released count as one after another unless they overlapped: a sender with parallel associations opens
    them all at the beginning, one with an association per image or per batch does not.
    """
    known = list(transfers)
    released = [p for p in known if p.carried and p.closed_at is not None and not p.aborted]
    failed = [p.closed_at for p in known if p.carried and p.closed_at is not None and p.aborted]
    latest_start = max((p.opened_at for p in released), default=None)
    first_end = min((p.closed_at for p in released if p.closed_at is not None), default=None)
    return TransferSummary(
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
    expected: int | None = None,
    short_wait_s: float = 0.0,
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
    expected
        How many instances the series has according to its sender, asked by C-FIND; None where nobody was asked or knows.
    short_wait_s
        Quiet time that stands in the place of `idle_s` while instances are missing that were promised and `open_arrivals` holds;
        without effect where it is shorter.
    """
    quiet = now - last_stored_at
    idle, grace = timedelta(seconds=idle_s), timedelta(seconds=min(grace_s, idle_s))
    promised = _promised(instances, expected)
    short = promised is not None and len(instances) < promised
    longest = max(idle, timedelta(seconds=short_wait_s)) if short and open_arrivals else idle
    if quiet >= longest:
        return Complete(f"nothing new for {longest.total_seconds():g} s")
    if short:
        return Wait(last_stored_at + longest, f"{len(instances)} of {promised} instances are here")
    regular = looks_whole(instances)
    everything_promised = regular and promised is not None
    if not everything_promised:
        objection = _objection(regular, open_arrivals, aborted, one_after_another)
        if objection is not None:
            return Wait(last_stored_at + idle, objection)
    if quiet < grace:
        return Wait(last_stored_at + grace, "it looks complete; a moment's grace")
    return Complete(f"all {promised} instances are here" if everything_promised else "released, and the stack has no gap")


def _promised(instances: Sequence[Instance], expected: int | None) -> int | None:
    """The largest number of instances that the images or the sender speak of; None where neither does."""
    promises = [i.instances_in_series for i in instances if i.instances_in_series is not None]
    return max([*promises, *([] if expected is None else [expected])], default=None)


def looks_whole(instances: Sequence[Instance]) -> bool:
    """Whether nothing in the headers says that a slice is missing: a regular stack, or multi-frame objects, whole by themselves."""
    if instances and all(i.frames > 1 for i in instances):
        return True
    stack = find_stack(instances)
    return stack is not None and stack.gapless


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
