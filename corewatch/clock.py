"""Type of the clocks that programs pass to decisions, so that tests need not sleep."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Returns the present moment, timezone-aware, UTC."""


def utc_now() -> datetime:
    """The present moment, UTC."""
    return datetime.now(UTC)
