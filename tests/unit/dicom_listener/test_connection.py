from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_listener.connection import LONGEST_REQUEST, Connection
from dicom_listener.pdu import PduType, PeerFault
from tests.support.wire import pdu


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with connected() as ends:
        yield ends


class connected:
    """Two ends of a TCP connection."""

    def __enter__(self) -> tuple[socket.socket, socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self._theirs = socket.create_connection(server.getsockname())
            self._ours, _ = server.accept()
        return self._ours, self._theirs

    def __exit__(self, *_: object) -> None:
        self._ours.close()
        self._theirs.close()


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    sizes=st.lists(st.integers(0, 3000) | st.sampled_from([65_536, 200_000, LONGEST_REQUEST]), max_size=8),
    cuts=st.lists(st.integers(1, 70_000), min_size=1, max_size=20),
)
def test_pdus_are_read_whole_from_any_segments(sizes: list[int], cuts: list[int]) -> None:
    bodies = [bytes([n]) * size for n, size in enumerate(sizes, 1)]
    stream = b"".join(pdu(PduType.DATA, b) for b in bodies)

    def send() -> None:
        position = 0
        for n in range(10**6):
            if position >= len(stream):
                break
            step = cuts[n % len(cuts)]
            theirs.sendall(stream[position : position + step])
            position += step
        theirs.shutdown(socket.SHUT_WR)

    with connected() as (ours, theirs):
        sender = threading.Thread(target=send)
        sender.start()
        connection = Connection(ours, LONGEST_REQUEST, 10)
        for expected in bodies:
            received = connection.read()
            assert received is not None
            assert received.kind == PduType.DATA
            assert received.body == expected
        assert connection.read() is None
        sender.join()


def test_a_connection_that_ends_within_a_pdu_is_broken(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(pdu(4, b"half", length=100))
    theirs.close()
    with pytest.raises(ConnectionError):
        Connection(ours, 1000, 5).read()


@pytest.mark.parametrize("beginning", [b"", b"\x04", pdu(4, b"half", length=100)])
def test_a_silent_peer_times_out(pair: tuple[socket.socket, socket.socket], beginning: bytes) -> None:
    ours, theirs = pair
    theirs.sendall(beginning)
    with pytest.raises(TimeoutError):
        Connection(ours, 1000, 0.05).read()


def test_a_dripping_peer_times_out(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    stop = threading.Event()

    def drip() -> None:
        theirs.sendall(pdu(4, b"", length=100_000))
        while not stop.wait(0.005):
            theirs.send(b".")

    dripper = threading.Thread(target=drip)
    dripper.start()
    try:
        with pytest.raises(TimeoutError, match="slow"):
            Connection(ours, 200_000, 0.2).read()
    finally:
        stop.set()
        dripper.join()


@pytest.mark.parametrize(("kind", "length"), [(4, 1001), (1, LONGEST_REQUEST + 1), (4, 0xFFFFFFFF), (9, 0), (0, 0)])
def test_a_pdu_that_is_too_long_or_unknown_is_a_fault(pair: tuple[socket.socket, socket.socket], kind: int, length: int) -> None:
    pair[1].sendall(pdu(kind, b"", length=length))
    with pytest.raises(PeerFault):
        Connection(pair[0], 1000, 5).read()


def test_another_thread_can_end_a_wait(pair: tuple[socket.socket, socket.socket]) -> None:
    connection = Connection(pair[0], 1000, 30)
    threading.Timer(0.05, connection.interrupt).start()
    before = time.monotonic()
    assert connection.read() is None
    assert time.monotonic() - before < 20


def test_the_artim_timer_ends_a_read(pair: tuple[socket.socket, socket.socket]) -> None:
    connection = Connection(pair[0], 1000, 30)
    before = time.monotonic()
    connection.start_artim(0.05)
    with pytest.raises(TimeoutError):
        connection.read()
    assert time.monotonic() - before < 20


def test_after_an_unfinished_handshake_nothing_is_sent(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    connection = Connection(context.wrap_socket(ours, server_side=True, do_handshake_on_connect=False), 16384, timeout_s=0.05)
    theirs.sendall(b"\x16\x03\x01\x02")
    with pytest.raises(TimeoutError):
        connection.handshake()
    connection.set_timeout(60)
    with pytest.raises(OSError, match=r"(?i)pipe|eof|protocol"):
        connection.send(b"farewell")
    theirs.settimeout(10)
    assert theirs.recv(100) == b""
    connection.close()
