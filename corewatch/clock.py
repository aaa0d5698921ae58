"""The type of clocks that are passed inwards, so that tests need no sleeping."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Returns the present moment, timezone-aware, UTC."""


def utc_now() -> datetime:
    """The present moment, UTC."""
    return datetime.now(UTC)
