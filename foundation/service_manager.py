"""What a program tells systemd: that it is ready, and again and again that it works (sd_notify(3), sd_watchdog_enabled(3))."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping

import structlog

from foundation.outages import OutageTracker

log = structlog.get_logger()

_WITHIN = 4
"""Words of life in the time after which the manager misses one."""


class ServiceManager:
    """Datagrams to the service manager that started this program. Where none did, every method does nothing.

    Parameters
    ----------
    environment
        `NOTIFY_SOCKET` says where it listens, `WATCHDOG_USEC` (microseconds) when it misses a word, `WATCHDOG_PID` whose.
    monotonic
        Seconds of a clock that never goes back.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._monotonic = monotonic
        self._every_s = float("inf")
        usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
        if usec.isdecimal() and int(usec) and pid in {"", str(os.getpid())}:
            self._every_s = int(usec) / 1e6 / _WITHIN
        self._said_at = monotonic()
        self._outage = OutageTracker()

    def ready(self) -> None:
        """The program does its work from now on."""
        self._say("READY=1")

    def alive(self) -> None:
        """The program works. To be called often; the manager hears of it only as often as it must."""
        now = self._monotonic()
        if now - self._said_at >= self._every_s:
            self._said_at = now
            self._say("WATCHDOG=1")

    def stopping(self) -> None:
        """The program ends."""
        self._say("STOPPING=1")

    def _say(self, words: str) -> None:
        if self._address[:1] not in {"/", "@"}:
            return
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.settimeout(1.0)  # a manager that does not listen must not hold up the work
                sock.sendto(words.encode(), address)
        except OSError as error:
            if self._outage.failed():
                log.warning("the service manager cannot be told", error=error.strerror or type(error).__name__)
        else:
            self._outage.recovered()
