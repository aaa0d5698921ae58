"""Hears from a program again and again that it works, as systemd would: the other end of `foundation.service_manager`."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

LIMIT_S: Final = 60.0
"""A program that says nothing for so long hangs; the same as `WatchdogSec` of the units."""

VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""How a manager tells a program where it listens (sd_notify(3), sd_watchdog_enabled(3))."""

_LONGEST_WORD = 4096


class Watchdog:
    """Listens to one program, over all its starts. What it says before it is ready, or not at all, is waited for without end.

    Parameters
    ----------
    limit_s
        Seconds of silence after which the program hangs.
    clock
        Monotonic seconds.
    """

    def __init__(self, limit_s: float = LIMIT_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s = limit_s
        self._clock = clock
        self._heard_at: float | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._socket.bind("")  # an address without a file (unix(7), "Autobind feature"), which goes when we do

    @property
    def environment(self) -> Mapping[str, str]:
        """What the program's environment must say."""
        address: bytes = self._socket.getsockname()
        return {"NOTIFY_SOCKET": "@" + address[1:].decode("ascii"), "WATCHDOG_USEC": str(round(self._limit_s * 1e6))}

    def begin(self) -> None:
        """The program is about to be started, or was killed: what was said until now does not count."""
        self._words()
        self._heard_at = None

    def is_silent(self) -> bool:
        """Whether the program has said too long ago that it works."""
        for word in self._words():
            # systemd's rule: time counts from when the program is ready, and no more once it stops
            if word in {"READY=1", "WATCHDOG=1"}:
                self._heard_at = self._clock()
            elif word == "STOPPING=1":
                self._heard_at = None
        return self._heard_at is not None and self._clock() - self._heard_at >= self._limit_s

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

    def _words(self) -> list[str]:
        found: list[str] = []
        while True:
            try:
                found += self._socket.recv(_LONGEST_WORD).decode("utf-8", "replace").splitlines()
            except BlockingIOError:
                return found
