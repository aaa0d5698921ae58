"""How a stage says what it is doing, for someone who waits in front of a terminal."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str], None]


def silent(_message: str) -> None:
    """Say nothing: in the workers the ledger tells how far a case is."""
