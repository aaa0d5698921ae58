"""The portal under connections that send nothing: the acknowledgement page stays fast. About 15 s."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
import requests

from corewatch.roles import Role
from tests.support.portal import RunningPortal, running_portal

IDLE = 100
STREAMS = 200
LIMIT_S = 0.5


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPortal]:
    with running_portal(tmp_path_factory.mktemp("portal")) as started:
        yield started


def is_open(connection: socket.socket) -> bool:
    try:
        return bool(connection.recv(1))
    except BlockingIOError:
        return True
    except OSError:
        return False


def test_idle_connections_silence_nobody_and_are_closed(portal: RunningPortal) -> None:
    link = portal.links.to(portal.alert("1.1"), "team")
    requests.get(link, timeout=10)
    idle = [socket.create_connection(("127.0.0.1", portal.port), timeout=10) for _ in range(IDLE)]
    began = time.monotonic()
    for number, connection in enumerate(idle):
        connection.sendall(b"GET /a/x HTTP/1.1\r\nX-Slow: "[: number % 20])
        connection.setblocking(False)
    longest = 0.0
    while time.monotonic() - began < 5:
        before = time.monotonic()
        assert requests.get(link, timeout=10).status_code == 200
        assert requests.post(link, data={"name": "Ute"}, timeout=10, allow_redirects=False).status_code in (200, 303)
        longest = max(longest, (time.monotonic() - before) / 2)
        time.sleep(0.1)
    assert longest < LIMIT_S
    assert sum(map(is_open, idle)) <= 32, "one address holds a bounded number"
    while any(map(is_open, idle)):
        assert time.monotonic() - began < 14
        time.sleep(0.1)
    for connection in idle:
        connection.close()


def test_many_live_pages_leave_the_acknowledgement_fast(portal: RunningPortal) -> None:
    link = portal.links.to(portal.alert("1.2"), "team")
    portal.user("ute", Role.VIEWER)
    secret = portal.signed_in("ute").cookies["corewatch"]
    request = f"GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1:{portal.port}\r\nCookie: corewatch={secret}\r\n\r\n".encode()
    streams, answers = [], []
    for _ in range(STREAMS):
        stream = socket.create_connection(("127.0.0.1", portal.port), timeout=20)
        stream.sendall(request)
        answers.append(stream.recv(1000))
        streams.append(stream)
    idle = [socket.create_connection(("127.0.0.1", portal.port), timeout=20) for _ in range(IDLE)]
    assert sum(b"HTTP/1.1 200" in answer for answer in answers) == STREAMS
    longest = 0.0
    for _ in range(20):
        before = time.monotonic()
        answer = requests.post(link, data={"name": "Ute"}, timeout=10, allow_redirects=False)
        assert answer.status_code in (200, 303)
        longest = max(longest, time.monotonic() - before)
    assert longest < LIMIT_S, longest
    for connection in streams + idle:
        connection.close()


def test_headers_without_end_are_refused(portal: RunningPortal) -> None:
    assert requests.get(f"{portal.url}/healthz", headers={"Cookie": "a=" + "x" * 14_000}, timeout=10).status_code == 200
    with socket.create_connection(("127.0.0.1", portal.port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nCookie: a=" + b"x" * 100_000)
        assert connection.recv(100).startswith(b"HTTP/1.1 4")
