"""Deadlines of connections, with real sockets and short times."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from portal.forms import FormRefused, read_form
from portal.serving.connection import mark_valid
from portal.serving.connection_table import ConnectionTable
from portal.serving.http_protocol import Deadlines, protocol_class
from tests.support.net import answers, free_port, wait_for

DEADLINES = Deadlines(header_s=0.5, body_idle_s=0.5, body_bytes_per_s=1000, write_s=0.5)
MOST = 4


async def _form(request: Request) -> Response:
    try:
        return PlainTextResponse(str(await read_form(request)))
    except FormRefused as refused:
        return PlainTextResponse(str(refused), refused.status)


async def _valid(request: Request) -> Response:
    mark_valid(request.scope)
    return PlainTextResponse("OK")


async def _large(_request: Request) -> Response:
    return PlainTextResponse("x" * 50_000_000)


async def _slow(_request: Request) -> Response:
    await asyncio.sleep(1.5)
    return PlainTextResponse("OK")


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[int, ConnectionTable]]:
    table, port = ConnectionTable(1000, MOST, lambda _address: False), free_port()
    routes = [Route("/form", _form, methods=["POST"]), Route("/valid", _valid), Route("/large", _large), Route("/slow", _slow)]
    config = uvicorn.Config(
        Starlette(routes=routes), host="127.0.0.1", port=port, http=protocol_class(table, DEADLINES), lifespan="off",
        log_config=None, timeout_graceful_shutdown=1,
    )  # fmt: skip
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    wait_for("the server", lambda: answers(port), 10)
    yield port, table
    running.should_exit = True
    thread.join(10)


def connected(port: int, sent: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(sent)
    return connection


def answer(connection: socket.socket) -> bytes:
    """The whole answer of `/valid`."""
    received = b""
    while not received.endswith(b"\r\n\r\nOK"):
        part = connection.recv(4096)
        assert part, received
        received += part
    return received


def seconds_until_closed(connection: socket.socket, drip: bytes = b"") -> float:
    """Wait until the other side ends the connection, while sending a byte now and then."""
    began = time.monotonic()
    connection.settimeout(0.1)
    while time.monotonic() - began < 10:
        try:
            if drip:
                connection.sendall(drip)
            if not connection.recv(65536):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - began


SLOW = {
    "idle": (b"", b""),
    "half a header": (b"GET /valid HT", b""),
    "a header that drips": (b"GET /valid HTTP/1.1\r\nHost: x\r\nX-A: ", b"a"),
    "half a second request": (b"GET /valid HTTP/1.1\r\nHost: x\r\n\r\nGET /val", b""),
    "half a body": (b"POST /form HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nname=", b""),
    "a body that drips": (b"POST /form HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nname=", b"a"),
    "an unread body": (b"POST /valid HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", b"a"),
}
"""What is sent, and then byte by byte."""


@pytest.mark.parametrize(("sent", "drip"), SLOW.values(), ids=SLOW)
def test_what_does_not_come_in_time_is_closed(server: tuple[int, ConnectionTable], sent: bytes, drip: bytes) -> None:
    with closing(connected(server[0], sent)) as connection:
        assert 0.3 < seconds_until_closed(connection, drip) < 3


def test_a_client_that_does_not_read_is_closed(server: tuple[int, ConnectionTable]) -> None:
    with closing(connected(server[0])) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        before = len(server[1])
        wait_for("the end of the connection", lambda: len(server[1]) < before, 10)


def test_an_answer_may_take_longer_than_every_deadline(server: tuple[int, ConnectionTable]) -> None:
    with closing(connected(server[0], b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 200")


def test_a_new_connection_of_a_full_address_is_answered(server: tuple[int, ConnectionTable]) -> None:
    idle = [connected(server[0]) for _ in range(20)]
    with closing(connected(server[0], b"GET /valid HTTP/1.1\r\nHost: x\r\n\r\n")) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    for one in idle:
        one.close()


def test_readers_of_one_address_may_be_many(server: tuple[int, ConnectionTable]) -> None:
    readers = []
    for _ in range(3 * MOST):
        reader = connected(server[0], b"GET /valid HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer(reader).startswith(b"HTTP/1.1 200")
        readers.append(reader)
    for reader in readers:
        reader.sendall(b"GET /valid HTTP/1.1\r\nHost: x\r\n\r\n")
    for reader in readers:
        assert answer(reader).startswith(b"HTTP/1.1 200")
        reader.close()
