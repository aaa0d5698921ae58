"""Result of one check: level, subject, what was found, remedy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from corewatch.errors import CorewatchError


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """It works, but not as well or as long as it should."""
    ERROR = "error"
    """Cases will not get through."""


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found.

    Attributes
    ----------
    subject
        What was looked at.
    found
        The state it is in.
    remedy
        What to do; empty where the level is `OK`.
    """

    level: Level
    subject: str
    found: str
    remedy: str = ""

    @classmethod
    def ok(cls, subject: str, found: str) -> Check:
        """All is well."""
        return cls(Level.OK, subject, found)

    @classmethod
    def warning(cls, subject: str, found: str, remedy: str) -> Check:
        """Something to look at."""
        return cls(Level.WARNING, subject, found, remedy)

    @classmethod
    def error(cls, subject: str, found: str, remedy: str) -> Check:
        """Something to put right."""
        return cls(Level.ERROR, subject, found, remedy)

    @classmethod
    def of_error(cls, subject: str, error: CorewatchError, remedy: str) -> Check:
        """A level-`ERROR` check from an exception; `remedy` counts where the exception knows none."""
        return cls.error(subject, error.problem, error.remedy or remedy)
