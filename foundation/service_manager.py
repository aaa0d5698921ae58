"""Notifications to systemd: ready, watchdog keep-alive, stopping (sd_notify(3), sd_watchdog_enabled(3))."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping

import structlog

from foundation.outages import OutageTracker

log = structlog.get_logger()

_PER_INTERVAL = 4
"""Keep-alives per watchdog interval."""


class ServiceManager:
    """Sends datagrams to the service manager that started this program; without one, the methods do nothing.

    Parameters
    ----------
    environment
        `NOTIFY_SOCKET`: the manager's socket; `WATCHDOG_USEC`: watchdog interval in microseconds; `WATCHDOG_PID`: whose it is.
    monotonic
        Seconds of a monotonic clock.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._monotonic = monotonic
        self._every_s = float("inf")
        usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
        if usec.isdecimal() and int(usec) and pid in {"", str(os.getpid())}:
            self._every_s = int(usec) / 1e6 / _PER_INTERVAL
        self._sent_at = monotonic()
        self._outage = OutageTracker()

    def ready(self) -> None:
        """The program is ready."""
        self._notify("READY=1")

    def alive(self) -> None:
        """The program works. Call it often; datagrams are sent only as often as the watchdog interval requires."""
        now = self._monotonic()
        if now - self._sent_at >= self._every_s:
            self._sent_at = now
            self._notify("WATCHDOG=1")

    def stopping(self) -> None:
        """The program is stopping."""
        self._notify("STOPPING=1")

    def _notify(self, state: str) -> None:
        if self._address[:1] not in {"/", "@"}:
            return
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.settimeout(1.0)  # a manager that does not read must not delay the work
                sock.sendto(state.encode(), address)
        except OSError as error:
            if self._outage.failed():
                log.warning("service_manager_unreachable", error=error.strerror or type(error).__name__)
        else:
            self._outage.recovered()
