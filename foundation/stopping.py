"""A request to stop that a signal handler may make; all programs use it."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

POLL_S = 0.1
"""A signal that another thread was given does not end a sleep of the main thread: it looks this often."""


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

    def wait(self, seconds: float) -> bool:
        """Sleep, or less where a signal interrupts it; returns whether to stop."""
        deadline = time.monotonic() + seconds
        while not self.requested and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, POLL_S))
        return self.requested

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Let SIGTERM and SIGINT make the request while the block runs. From the main thread only."""
        before = {number: signal.signal(number, self.handle) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
