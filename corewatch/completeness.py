"""Series completeness: decides when a series that is being received is complete. DICOM marks no end of a series.

Signs, strongest first:

1. Nothing new for `idle_s`: complete, whatever the stack looks like. Only while instances are missing that were announced, and an
   association is open that may bring them, the limit is `short_wait_s`. So every series completes; instances that arrive later make
   a new revision.
2. As many instances as announced, in a gapless stack: complete after `grace_s`, even while the association continues with other
   series. The announced number is Number of Series Related Instances (0020,1209) in the headers, or the sending PACS's answer to a
   C-FIND; the larger one counts, because a PACS that is still receiving the series itself announces too few.
3. All associations released and the stack gapless: complete after `grace_s`. Where the sender aborted an association (it will try
   again), has another one open (the rest may follow on it), or sent this series over several associations one after another (it may
   open the next), only 1 and 2 apply.

Silence counts only while the sender could be heard. After an outage of the receiver, and after an arrival that was interrupted
(`ArrivalOutcome.INTERRUPTED`), the limit in 1 is `retry_wait_s` from the moment that the receiver listens again: the sender must
first notice, and try again. An interrupted arrival counts as aborted in 3 until as many associations have been released after it as
were interrupted at the same time.

The caller passes the clock and calls `decide` again whenever an instance arrives, an association ends, or `Wait.until` is reached.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from corewatch.instance import Instance
from corewatch.slice_stack import find_stack


@dataclass(frozen=True, slots=True)
class Complete:
    """No further instances are expected."""

    why: str


@dataclass(frozen=True, slots=True)
class Wait:
    """More instances may follow: decide again at `until` at the latest, sooner when anything has changed."""

    until: datetime
    why: str


@dataclass(frozen=True, slots=True)
class Transfer:
    """One association that carried instances of the series, or an open one of the same sender that may still carry some.

    Attributes
    ----------
    closed_at
        None while it is open.
    aborted
        It ended without a release.
    carried
        It carried at least one instance of the series.
    interrupted
        It was aborted because the receiver ended, or within an instance.
    """

    opened_at: datetime
    closed_at: datetime | None
    aborted: bool = False
    carried: bool = True
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class TransferSummary:
    """State of all associations of a series together (see `summarise`)."""

    open_arrivals: bool
    aborted: bool
    one_after_another: bool
    interrupted: bool = False


def summarise(transfers: Iterable[Transfer]) -> TransferSummary:
    """Summarise the associations of a series.

    An association that began after an abort, carried instances and was released makes up for the abort. Two released associations
    that carried instances count as one after another unless they overlapped: a sender with parallel associations opens all of them
    at the beginning, a sender with one association per instance or batch does not.
    """
    known = list(transfers)
    released = [p for p in known if p.carried and p.closed_at is not None and not p.aborted]
    failed = [p.closed_at for p in known if p.carried and p.closed_at is not None and p.aborted]
    interrupted = _is_interrupted([p for p in known if p.carried and p.interrupted], released)
    latest_start = max((p.opened_at for p in released), default=None)
    first_end = min((p.closed_at for p in released if p.closed_at is not None), default=None)
    return TransferSummary(
        open_arrivals=any(p.closed_at is None for p in known),
        aborted=interrupted or any(latest_start is None or latest_start < at for at in failed),
        one_after_another=latest_start is not None and first_end is not None and first_end < latest_start,
        interrupted=interrupted,
    )


def _is_interrupted(interrupted: Sequence[Transfer], released: Sequence[Transfer]) -> bool:
    """Whether fewer associations were released after the last interruption than were interrupted at the same time.

    A sender with parallel associations sends the rest over as many; one that is interrupted again and again needs only one.
    """
    ends = [p.closed_at for p in interrupted if p.closed_at is not None]
    if not ends:
        return False
    together = max(sum(p.opened_at <= end for p in interrupted if p.closed_at is not None and p.closed_at >= end) for end in ends)
    return sum(p.opened_at >= max(ends) for p in released) < together


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
    heard_since: datetime | None = None,
    deaf: bool = False,
    interrupted: bool = False,
    retry_wait_s: float = 0.0,
) -> Complete | Wait:
    """Decide whether a series is complete.

    Parameters
    ----------
    instances
        The instances received so far, each SOP instance once, in any order.
    last_stored_at
        When the last file of this series was stored. A repeated instance counts: its sender is still sending.
    open_arrivals
        An association that carried this series, or any other of the same sender, is still open.
    aborted
        An association that carried this series was aborted, and no later one has made up for it.
    now
        The present moment.
    idle_s, grace_s
        Quiet time after which a series is complete in any case, and where nothing speaks against it; seconds.
    one_after_another
        The series was sent over several associations in sequence.
    expected
        Number of instances that the sender answered to a C-FIND; None where there was no C-FIND or no answer.
    short_wait_s
        Quiet time that replaces `idle_s` while announced instances are missing and `open_arrivals` is true; seconds. Without effect
        where it is shorter.
    heard_since
        Silence before this moment does not count towards `idle_s`: the receiver did not listen, or was not observed.
    deaf
        The receiver does not listen now: silence does not count.
    interrupted
        An association that carried this series was interrupted and no later one has made up for it, or the receiver did not listen
        all the time since the last instance.
    retry_wait_s
        Quiet time that replaces `idle_s` after an interruption; seconds. Without effect where it is shorter.
    """
    quiet = now - last_stored_at
    silent_since = now if deaf else max(last_stored_at, heard_since or last_stored_at)
    idle, grace = timedelta(seconds=idle_s), timedelta(seconds=min(grace_s, idle_s))
    if interrupted:
        idle = max(idle, timedelta(seconds=retry_wait_s))
    announced = _announced(instances, expected)
    short = announced is not None and len(instances) < announced
    longest = max(idle, timedelta(seconds=short_wait_s)) if short and open_arrivals else idle
    if not deaf and now - silent_since >= longest:
        return Complete(f"nothing new for {longest.total_seconds():g} s")
    if short:
        return Wait(silent_since + longest, f"{len(instances)} of {announced} instances are here")
    whole = looks_whole(instances)
    all_announced = whole and announced is not None
    if not all_announced:
        objection = _objection(whole, open_arrivals, aborted, one_after_another)
        if objection is not None:
            return Wait(silent_since + idle, objection)
    if quiet < grace:
        return Wait(last_stored_at + grace, "it looks complete; a moment's grace")
    return Complete(f"all {announced} instances are here" if all_announced else "released, and the stack has no gap")


def _announced(instances: Sequence[Instance], expected: int | None) -> int | None:
    """The largest number of instances that a header or the sender gives; None where neither gives one."""
    numbers = [i.instances_in_series for i in instances if i.instances_in_series is not None]
    return max([*numbers, *([] if expected is None else [expected])], default=None)


def looks_whole(instances: Sequence[Instance]) -> bool:
    """Whether no header says that a slice is missing: a gapless stack, or only multi-frame instances, each whole by itself."""
    if instances and all(i.frames > 1 for i in instances):
        return True
    stack = find_stack(instances)
    return stack is not None and stack.gapless


def _objection(whole: bool, open_arrivals: bool, aborted: bool, one_after_another: bool) -> str | None:
    """The first sign that more instances may follow."""
    if open_arrivals:
        return "the sender still has an association open"
    if aborted:
        return "the sender's association was aborted; it may try again"
    if one_after_another:
        return "the sender sends the series in parts, one association after another"
    if not whole:
        return "the slices do not form a stack without gaps"
    return None
