"""Result of one check: level, subject, what was found, remedy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from corewatch.errors import CorewatchError


class Level(StrEnum):
    """Severity."""

    OK = "ok"
    WARNING = "warning"
    """It works, with a restriction."""
    ERROR = "error"
    """Cases are not analysed or delivered."""


@dataclass(frozen=True, slots=True)
class Check:
    """Result of one check.

    Attributes
    ----------
    subject
        What was checked.
    found
        What was found.
    remedy
        What to do; empty where the level is `OK`.
    """

    level: Level
    subject: str
    found: str
    remedy: str = ""

    @classmethod
    def ok(cls, subject: str, found: str) -> Check:
        """Level `OK`."""
        return cls(Level.OK, subject, found)

    @classmethod
    def warning(cls, subject: str, found: str, remedy: str) -> Check:
        """Level `WARNING`."""
        return cls(Level.WARNING, subject, found, remedy)

    @classmethod
    def error(cls, subject: str, found: str, remedy: str) -> Check:
        """Level `ERROR`."""
        return cls(Level.ERROR, subject, found, remedy)

    @classmethod
    def of_failure(cls, subject: str, error: Exception) -> Check:
        """A level-`ERROR` check that could not be made."""
        return cls.error(subject, f"the check itself failed: {type(error).__name__}: {error}", "report this, with the log")

    @classmethod
    def of_error(cls, subject: str, error: CorewatchError, remedy: str) -> Check:
        """A level-`ERROR` check from an exception; `remedy` counts where the exception knows none."""
        return cls.error(subject, error.problem, error.remedy or remedy)
