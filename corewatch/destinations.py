"""Reserved names of destinations, and which of them receive results or notices. The settings name the archives."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

FOLDER: Final = "folder"
EMAIL: Final = "email"
OPERATORS: Final = "operators"
WEBHOOK: Final = "webhook"
WEBHOOK_NOTICES: Final = "webhook-notices"

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


def gets_results(name: str) -> bool:
    """Whether a result is delivered there at once: neither to destinations of notices, nor to escalation levels, which wait."""
    return name not in ONLY_NOTICES and not name.startswith(_ESCALATION)


def is_reserved(name: str) -> bool:
    """Whether the name is reserved, so that no archive may have it."""
    return name in {FOLDER, EMAIL, OPERATORS, WEBHOOK, WEBHOOK_NOTICES} or name.startswith(_ESCALATION)
