"""Stop request by SIGTERM or SIGINT, for the main loop of every program."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

POLL_S = 0.1
"""Interval between two looks at the flag: a signal that another thread receives does not interrupt the main thread's sleep."""


class StopRequest:
    """A flag that a signal handler sets and the main thread polls.

    Not a `threading.Event`: the handler runs in the main thread, which may hold the event's lock at that moment; setting the event
    would then deadlock.
    """

    def __init__(self) -> None:
        self.requested = False

    def handle(self, _number: int, _frame: FrameType | None) -> None:
        """Signal handler: request a stop."""
        self.requested = True

    def wait(self, seconds: float) -> bool:
        """Sleep until the time is over or a stop is requested; returns whether one is."""
        deadline = time.monotonic() + seconds
        while not self.requested and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, POLL_S))
        return self.requested

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Context manager: SIGTERM and SIGINT request a stop while the block runs. Main thread only."""
        before = {number: signal.signal(number, self.handle) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
