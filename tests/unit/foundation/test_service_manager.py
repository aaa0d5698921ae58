"""What systemd hears, on a real socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from foundation import service_manager as servicemanager
from foundation.service_manager import ServiceManager
from tests.support.listener import captured_logs


class Now:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """The manager's socket, and what it puts into NOTIFY_SOCKET."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@corewatch-test-{os.getpid()}-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name.replace("@", "\0", 1) if name[0] == "@" else name)
        sock.setblocking(False)
        yield sock, name


def heard(sock: socket.socket) -> list[str]:
    words = []
    while True:
        try:
            words.append(sock.recv(4096).decode())
        except BlockingIOError:
            return words


def test_ready_alive_and_the_end(manager: tuple[socket.socket, str]) -> None:
    sock, name = manager
    now = Now()
    us = ServiceManager({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, now)
    us.ready()
    assert heard(sock) == ["READY=1"]
    for _ in range(121):  # two minutes, a call a second
        us.alive()
        now.s += 1
    words = heard(sock)
    assert set(words) == {"WATCHDOG=1"}
    assert 4 <= len(words) <= 10, "often enough for a minute's patience, and no oftener than it needs"
    us.stopping()
    assert heard(sock) == ["STOPPING=1"]


@pytest.mark.parametrize(
    "watchdog", [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}]
)
def test_without_a_watchdog_of_ours_only_the_rest_is_told(manager: tuple[socket.socket, str], watchdog: dict[str, str]) -> None:
    sock, name = manager
    now = Now()
    us = ServiceManager({"NOTIFY_SOCKET": name, **watchdog}, now)
    us.ready()
    now.s += 1e6
    us.alive()
    assert heard(sock) == ["READY=1"]


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
def test_without_a_manager_nothing_happens(environment: dict[str, str]) -> None:
    with captured_logs(servicemanager) as logs:
        us = ServiceManager({**environment, "WATCHDOG_USEC": "1"})
        us.ready()
        us.alive()
        us.stopping()
    assert logs == []


def test_a_manager_that_is_gone_is_said_once_and_stops_nothing(tmp_path: Path) -> None:
    with captured_logs(servicemanager) as logs:
        us = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")})
        us.ready()
        us.stopping()
    assert [line["event"] for line in logs] == ["service_manager_unreachable"]
