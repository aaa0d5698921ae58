from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.section import TlsFiles
from corewatch.errors import ConfigurationError
from dicom_listener.transport import PduReader, server_tls


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0.05)
        yield ours, theirs


def test_reads_exactly_what_was_asked_for(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    data = bytes(range(256)) * 4000
    sender = threading.Thread(target=theirs.sendall, args=(data + b"next",))
    sender.start()
    read = PduReader(ours, 5, 2_000_000)
    assert read(len(data)) == data
    assert read(4) == b"next"
    sender.join()


def test_a_connection_that_ends_gives_what_came(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(b"abc")
    theirs.close()
    read = PduReader(ours, 5, 100)
    assert read(10) == b"abc"
    assert read(10) == b""


def test_a_silent_peer_ends_by_time(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(b"abc")
    with pytest.raises(TimeoutError):
        PduReader(ours, 5, 100)(10)


def test_a_dripping_peer_ends_by_time_too(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.005):
            theirs.send(b".")

    dripper = threading.Thread(target=drip)
    dripper.start()
    try:
        with pytest.raises(TimeoutError, match="stalled"):
            PduReader(ours, 0.2, 100_000)(100_000)
    finally:
        stop.set()
        dripper.join()


def test_an_oversized_pdu_is_not_even_begun(pair: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(OSError, match="announced"):
        PduReader(pair[0], 5, 1000)(0xFFFFFFFF)


def test_missing_certificates_are_a_matter_of_configuration(tmp_path: Path) -> None:
    nowhere = tmp_path / "nothing.pem"
    with pytest.raises(ConfigurationError, match=r"listener\.tls"):
        server_tls(TlsFiles(certificate=nowhere, key=nowhere, authority=nowhere))
