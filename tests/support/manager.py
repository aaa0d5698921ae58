"""A service manager as far as a program can tell: its socket, and what comes through it."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


class Manager:
    """What programs that get `environment` say."""

    def __init__(self, sock: socket.socket, environment: Mapping[str, str], watchdog_s: float) -> None:
        self.environment = environment
        self._sock = sock
        self._watchdog_s = watchdog_s

    def next(self, patience_s: float = 30.0) -> str:
        """The next words; raises `TimeoutError` where none come."""
        self._sock.settimeout(patience_s)
        return self._sock.recv(4096).decode()

    def falls_silent(self) -> bool:
        """Whether the time passes after which systemd would act; words that were on their way do not count."""
        for _ in range(10):
            try:
                self.next(self._watchdog_s)
            except TimeoutError:
                return True
        return False


@contextmanager
def service_manager(folder: Path, watchdog_s: float) -> Iterator[Manager]:
    """A socket in `folder` and the environment that leads there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(folder / "notify"))
        yield Manager(sock, {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": str(int(watchdog_s * 1e6))}, watchdog_s)
