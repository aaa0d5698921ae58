"""Reserved names of destinations, and which of them receive results or notices. The settings name the archives."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

FOLDER: Final = "folder"
EMAIL: Final = "email"
OPERATORS: Final = "operators"
WEBHOOK: Final = "webhook"
WEBHOOK_NOTICES: Final = "webhook-notices"

MAIL_REFUSAL: Final = "refusal"
WEBHOOK_REFUSAL: Final = "webhook-refusal"
"""Reporters: `refusal-main-pacs` is the operators' mail, `webhook-refusal-main-pacs` the request, that `main-pacs` refused."""

_REPORTERS: Final = (MAIL_REFUSAL, WEBHOOK_REFUSAL)
_ESCALATION: Final = "escalation-"

ONLY_NOTICES: Final = frozenset({OPERATORS, WEBHOOK_NOTICES})
"""Destinations that receive only notices of cases without a finding, over the same servers as `EMAIL` and `WEBHOOK`."""

NOTICES: Final = ONLY_NOTICES | {FOLDER}
"""Destinations that receive a notice of a case without a finding; the folder receives results as well."""


class Turn(IntEnum):
    """The order in which a result is delivered to its destinations: what alerts people is first."""

    MAIL = 1
    ESCALATION = 2
    WEBHOOK = 3
    PACS = 4
    DICOMWEB = 5
    FOLDER = 6


def escalation(level: int) -> str:
    """Name of the destination of one escalation level, counted from 1."""
    return f"{_ESCALATION}{level}"


def alerts_people(name: str) -> bool:
    """Whether an alert reaches the people who must act on it by this destination: the stroke team's mail, or an escalation."""
    return name == EMAIL or name.startswith(_ESCALATION)


def reports_alerts(name: str) -> bool:
    """Whether an alert is planned for it as soon as there is a finding, before its pages are drawn."""
    return name in {EMAIL, WEBHOOK}


def refusal_notice(reporter: str, destination: str) -> str:
    """Name of the notice that this destination refused a result."""
    return f"{reporter}-{destination}"


def parse_refusal_notice(name: str) -> tuple[str, str] | None:
    """Reporter and destination of such a notice; None for every other name.

    >>> parse_refusal_notice(refusal_notice(MAIL_REFUSAL, "main-pacs"))
    ('refusal', 'main-pacs')
    """
    found = ((one, name.removeprefix(f"{one}-")) for one in _REPORTERS if name.startswith(f"{one}-"))
    return next(found, None)


def is_only_notice(name: str) -> bool:
    """Whether it reports a problem and never a result: it does not hold up the end of a case, and is not reported if refused."""
    return name in ONLY_NOTICES or name in _REPORTERS or parse_refusal_notice(name) is not None


def gets_results(name: str) -> bool:
    """Whether a result is delivered there at once: neither to destinations of notices, nor to escalation levels, which wait."""
    return not is_only_notice(name) and not name.startswith(_ESCALATION)


def is_reserved(name: str) -> bool:
    """Whether the name is reserved, so that no archive may have it."""
    return name in {FOLDER, EMAIL, WEBHOOK} or is_only_notice(name) or name.startswith(_ESCALATION)
