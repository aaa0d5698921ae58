"""The audit trail reaches a TLS syslog receiver once and in order, whatever breaks on the way."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from config.audit import SyslogSettings
from config.settings import Settings
from corewatch.errors import OperatorNeeded, RetryLater
from daemon.upkeep.audit_forwarding import MAX_UNCONFIRMED, AuditForwarder, Unconfirmed, send_syslog
from ledger.store import Ledger
from tests.support.ledger import T0, Clock, delivering
from tests.support.net import free_port
from tests.support.storage import Certificates, make_certificates


@dataclass
class Receiver:
    port: int
    messages: list[bytes] = field(default_factory=list)
    break_off: int = 0
    """Connections to be cut in the middle of what they bring."""
    rude: bool = False
    """Closes without TLS's close_notify."""

    def lines(self) -> list[int]:
        return [int(match[1]) for one in self.messages if (match := re.search(rb'line="(\d+)"', one))]


def frames_of(data: bytes) -> list[bytes]:
    found = []
    while data:
        count, _, rest = data.partition(b" ")
        found.append(rest[: int(count)])
        data = rest[int(count) :]
    return found


@contextmanager
def receiver(context: ssl.SSLContext, port: int = 0) -> Iterator[Receiver]:
    listener = socket.create_server(("127.0.0.1", port))
    held = Receiver(listener.getsockname()[1])

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            with suppress(OSError), context.wrap_socket(plain, server_side=True) as secured:
                if held.break_off:
                    held.break_off -= 1
                    secured.recv(10)
                    continue
                data = b""
                while chunk := secured.recv(65536):
                    data += chunk
                held.messages += frames_of(data)
                if held.rude:
                    continue
                with suppress(OSError):
                    secured.unwrap()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield held
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("pki"))


def to(port: int, certificates: Certificates, **more: object) -> SyslogSettings:
    certificate, key = certificates.client
    known = {"authority": certificates.authority, "certificate": certificate, "key": key, "timeout_s": 5}
    return SyslogSettings.model_validate({"host": "localhost", "port": port, **known, **more})


def test_once_in_order_over_outages_and_restarts(tmp_path: Path, certificates: Certificates) -> None:
    clock = Clock()
    settings = Settings(data_dir=tmp_path)
    ledger = Ledger(settings.database_url, clock)
    port = free_port()
    forwarder = AuditForwarder(ledger, settings, to(port, certificates))
    assert forwarder.step(clock()) == 0, "the reader begins here"
    delivering(ledger, folder=None)
    assert forwarder.step(clock()) == 0, "nobody listens"
    with receiver(certificates.server_context(), port) as repository:
        repository.break_off = 1
        assert forwarder.step(clock()) == 0, "pausing"
        clock.forward(5)
        assert forwarder.step(clock()) == 0, "cut in the middle"
        clock.forward(10)
        assert forwarder.step(clock()) > 0
        ledger.note("program.stopped", program="watch")
        ledger.close()
        again = Ledger(settings.database_url, clock)
        assert AuditForwarder(again, settings, to(port, certificates)).step(clock()) == 1
        assert AuditForwarder(again, settings, to(port, certificates)).step(clock()) == 0
        again.close()
    assert repository.lines() == sorted(set(repository.lines())), "each once, in order"
    text = b"".join(repository.messages)
    assert b"DICOM Instances Transferred" in text
    assert b"Application Stop" in text
    assert all(one.startswith(b"<85>1 ") for one in repository.messages)


def test_a_stranger_gets_nothing(tmp_path: Path, certificates: Certificates) -> None:
    other = make_certificates(tmp_path / "other")
    with receiver(other.server_context(mutual=False)) as repository:
        with pytest.raises(OperatorNeeded, match="cannot be trusted"):
            send_syslog(to(repository.port, certificates), [b"1 x"])
        assert repository.messages == []
    with pytest.raises(RetryLater, match="cannot be reached"):
        send_syslog(to(repository.port, certificates), [b"1 x"])


def test_many_messages_arrive_whole(certificates: Certificates) -> None:
    frames = [f"{len(body)} {body}".encode() for body in (f'line="{k}" ' + "x" * 3000 for k in range(300))]
    with receiver(certificates.server_context()) as repository:
        send_syslog(to(repository.port, certificates), frames)
    assert repository.lines() == list(range(300))


def test_a_receiver_without_close_notify_gets_a_bounded_number_of_copies(tmp_path: Path, certificates: Certificates) -> None:
    clock = Clock()
    settings = Settings(data_dir=tmp_path)
    ledger = Ledger(settings.database_url, clock)
    with receiver(certificates.server_context()) as repository:
        repository.rude = True
        forwarder = AuditForwarder(ledger, settings, to(repository.port, certificates))
        forwarder.step(clock())
        ledger.note("program.stopped", program="watch")
        steps = []
        for _ in range(200):
            steps.append(forwarder.step(clock()))
            clock.forward(5)
        with pytest.raises(Unconfirmed, match="close_notify"):
            send_syslog(to(repository.port, certificates), ())
    assert sum(steps) == 1
    assert len(repository.lines()) == MAX_UNCONFIRMED
    assert steps.index(1) == 3, "after pauses of 5 and 10 s"
    assert "syslog.unconfirmed" in [line.event for line in ledger.audit_trail.lines()]
    ledger.close()


def test_pauses_grow_and_have_a_bound(tmp_path: Path) -> None:
    clock, tries = Clock(), list[float]()
    ledger = Ledger(Settings(data_dir=tmp_path).database_url, clock)

    def refuse(_: SyslogSettings, frames: Sequence[bytes]) -> None:
        tries.append((clock() - T0).total_seconds())
        raise RetryLater("nobody there")

    forwarder = AuditForwarder(ledger, Settings(data_dir=tmp_path), SyslogSettings(host="x"), refuse)
    forwarder.step(clock())
    ledger.note("program.stopped", program="watch")
    for _ in range(800):
        forwarder.step(clock())
        clock.forward(5)
    pauses = [after - before for before, after in pairwise(tries)]
    assert pauses == [5, 10, 20, 40, 80, 160, 320, 600, 600, 600, 600, 600]
    ledger.close()
