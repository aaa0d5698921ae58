"""A request to stop that a signal handler may make."""

from __future__ import annotations

from types import FrameType


class StopRequest:
    """A flag that the main thread polls.

    Not a `threading.Event`: a signal handler runs in the main thread between any two steps, also while that thread holds the lock
    of an event that it waits for; setting the event there then waits for ever.
    """

    def __init__(self) -> None:
        self.requested = False

    def handle(self, _number: int, _frame: FrameType | None) -> None:
        """As a signal handler."""
        self.requested = True
