"""Mail throttle: a recent alert is sent alone at once, other mails up to a number per hour, and the excess in one digest. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class MailLimits:
    """Limits on the mails of one destination.

    Attributes
    ----------
    per_hour
        Mails in any hour, digests included; recent alerts are neither limited nor counted. At least 2.
    digest_every
        Time after a digest in which only recent alerts are sent.
    alert_alone_for
        An alert whose last image is older than this is no longer urgent.
    """

    per_hour: int
    digest_every: timedelta
    alert_alone_for: timedelta


class SendMode(StrEnum):
    """How one mail is sent."""

    ALONE = "alone"
    DIGEST = "digest"
    """Together with all waiting mails of this destination."""
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class SentMail:
    """One sent mail that counts against the hourly limit."""

    at: datetime
    digest: bool


@dataclass(frozen=True, slots=True)
class ThrottleDecision:
    """How a mail is sent, and for `WAIT` until when it waits."""

    mode: SendMode
    until: datetime | None = None


def is_urgent(alert: bool, last_image_at: datetime, limits: MailLimits, now: datetime) -> bool:
    """Whether a mail is sent at once and alone: that of a recent alert."""
    return alert and now - last_image_at < limits.alert_alone_for


def throttle(waiting: int, sent: Sequence[SentMail], limits: MailLimits, now: datetime) -> ThrottleDecision:
    """Decide how a mail is sent that is not urgent.

    Parameters
    ----------
    waiting
        Number of waiting mails of the destination, this one included, urgent ones excluded.
    sent
        Mails of the last hour that count against the limit, in any order.
    """
    within = [one.at for one in sent if now - one.at < HOUR]
    digests = [one.at for one in sent if one.digest and now - one.at < limits.digest_every]
    if digests:
        return ThrottleDecision(SendMode.WAIT, max(digests) + limits.digest_every)
    places = limits.per_hour - len(within)
    if places > waiting:  # one place stays free for a digest of the next mails
        return ThrottleDecision(SendMode.ALONE)
    if places > 0:
        return ThrottleDecision(SendMode.DIGEST if waiting > 1 else SendMode.ALONE)
    return ThrottleDecision(SendMode.WAIT, sorted(within)[len(within) - limits.per_hour] + HOUR)
