"""How many mails an outage may end in: a recent alert goes out alone at once, the rest within a bound, and what is too much in one
digest. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class MailLimits:
    """The bound on the mails of one destination.

    Attributes
    ----------
    per_hour
        Mails in any hour, digests among them; recent alerts are neither bounded nor counted. At least 2.
    digest_every
        After a digest nothing but recent alerts is sent for so long.
    alert_alone_for
        An alert whose last image is older than this is no longer urgent.
    """

    per_hour: int
    digest_every: timedelta
    alert_alone_for: timedelta


class SendMode(StrEnum):
    """What to do with one mail."""

    ALONE = "alone"
    DIGEST = "digest"
    """Together with everything of this destination that waits."""
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class SentMail:
    """One mail that took a place in the hour."""

    at: datetime
    digest: bool


@dataclass(frozen=True, slots=True)
class ThrottleDecision:
    """What to do, and for `WAIT` until when."""

    mode: SendMode
    until: datetime | None = None


def is_urgent(alert: bool, last_image_at: datetime, limits: MailLimits, now: datetime) -> bool:
    """Whether a finding must reach its readers at once: an alert, and recent."""
    return alert and now - last_image_at < limits.alert_alone_for


def throttle(waiting: int, sent: Sequence[SentMail], limits: MailLimits, now: datetime) -> ThrottleDecision:
    """Decide about a mail that is not urgent.

    Parameters
    ----------
    waiting
        How many of the destination's mails wait, this one among them, the urgent ones not.
    sent
        What took a place lately, in any order.
    """
    within = [one.at for one in sent if now - one.at < HOUR]
    digests = [one.at for one in sent if one.digest and now - one.at < limits.digest_every]
    if digests:
        return ThrottleDecision(SendMode.WAIT, max(digests) + limits.digest_every)
    places = limits.per_hour - len(within)
    if places > waiting:  # one place stays free for a digest of whatever comes next
        return ThrottleDecision(SendMode.ALONE)
    if places > 0:
        return ThrottleDecision(SendMode.DIGEST if waiting > 1 else SendMode.ALONE)
    return ThrottleDecision(SendMode.WAIT, sorted(within)[len(within) - limits.per_hour] + HOUR)
