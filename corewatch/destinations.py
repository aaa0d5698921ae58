"""Names of the destinations that corewatch itself names, and which of them hears of what; archives are named by the settings."""

from __future__ import annotations

from typing import Final

FOLDER: Final = "folder"
EMAIL: Final = "email"
OPERATORS: Final = "operators"
WEBHOOK: Final = "webhook"
WEBHOOK_NOTICES: Final = "webhook-notices"

_ESCALATION: Final = "escalation-"

ONLY_NOTICES: Final = frozenset({OPERATORS, WEBHOOK_NOTICES})
"""They hear of cases that end without a finding, and of those alone, over the same server as `EMAIL` and `WEBHOOK`."""

NOTICES: Final = ONLY_NOTICES | {FOLDER}
"""Destinations that hear of a case that ends without a finding; the folder also gets results."""


def escalation(level: int) -> str:
    """The destination of one level of escalation, counted from 1."""
    return f"{_ESCALATION}{level}"


def gets_results(name: str) -> bool:
    """Whether a result is brought there as soon as there is one: not where only notices go, nor before an alert's time has come."""
    return name not in ONLY_NOTICES and not name.startswith(_ESCALATION)


def is_reserved(name: str) -> bool:
    """Whether no archive may bear this name."""
    return name in {FOLDER, EMAIL, OPERATORS, WEBHOOK, WEBHOOK_NOTICES} or name.startswith(_ESCALATION)
