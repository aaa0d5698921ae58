"""Peers that break every rule: nothing crashes, leaks or is written outside the data folder, and the next good sender is served.

The corpus holds whole conversations, one a file: what a client sends, from its first byte on. A new finding becomes a file there.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dicom_listener.dispatch
import dicom_listener.server
from config.settings import Settings
from dicom_listener.dispatch import MessageDispatcher
from dicom_listener.server import MAX_UNASSOCIATED_PER_HOST, StorageListener
from tests.support import wire
from tests.support.listener import (
    arrivals,
    associate,
    captured_logs,
    ct_slice,
    file_bytes,
    images,
    listener_settings,
    running,
    send,
)
from tests.support.net import wait_for

CORPUS = sorted((Path(__file__).parents[1] / "corpus" / "upper_layer").glob("*.bin"))
FUZZ = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
UID = str(ct_slice(1).SOPInstanceUID).encode()
CUT = b"\x08\x00\x16\x00"


def data_set(number: int = 1, size: int = 8) -> bytes:
    whole = file_bytes(ct_slice(number, size=size))
    return whole[whole.index(CUT) :]


def conversation(instance: bytes = UID, data: bytes | None = None, piece: int = 4096) -> bytes:
    """A good sender's bytes, without the A-RELEASE-RQ."""
    data = data_set() if data is None else data
    pieces = [data[k : k + piece] for k in range(0, len(data), piece)] or [b""]
    out = wire.associate_rq() + wire.pdu(4, wire.pdv(wire.store_command(instance), 3))
    for number, part in enumerate(pieces, 1):
        out += wire.pdu(4, wire.pdv(part, 2 if number == len(pieces) else 0))
    return out


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[StorageListener]:
    with running(listener_settings(tmp_path, idle_timeout_s=5, max_instance_mib=1)) as one:
        yield one


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    return listener_settings(tmp_path)


def serves_a_good_sender(listener: StorageListener, number: int = 99) -> None:
    association = associate(listener.port)
    assert send(association, number) == [0]
    association.release()


def nothing_strange_in(folder: Path) -> None:
    """Only what the spool is made of, with names made of hashes, and nothing half-written."""
    for path in folder.rglob("*"):
        inside = path.relative_to(folder).parts
        assert inside[:2] == ("data", "received")[: len(inside)], path
        assert path.is_dir() or path.name in ("arrival.json", "closed.json") or path.suffix == ".dcm", path


@pytest.mark.parametrize("path", CORPUS, ids=lambda p: p.stem)
def test_corpus(listener: StorageListener, tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    defects: list[BaseException] = []
    for module in ("association", "dispatch"):
        monkeypatch.setattr(f"dicom_listener.{module}.report", lambda error, _event: defects.append(error))
    with wire.raw_peer(listener.port) as peer:
        peer.send(path.read_bytes())
        peer.finish()
    wait_for("the end of the association", lambda: listener.open_associations == 0)
    serves_a_good_sender(listener)
    assert defects == []
    nothing_strange_in(tmp_path)


def test_the_corpus_is_there() -> None:
    assert len(CORPUS) >= 20


@FUZZ
@given(
    flips=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=8),
    cut=st.none() | st.integers(0, 2000),
    doubled=st.none() | st.tuples(st.integers(0, 1500), st.integers(1, 300)),
)
def test_damaged_conversations(
    listener: StorageListener, flips: list[tuple[int, int]], cut: int | None, doubled: tuple[int, int] | None
) -> None:
    stream = bytearray(conversation() + wire.pdu(wire.RELEASE_RQ, bytes(4)))
    for place, value in flips:
        stream[place % len(stream)] = value
    if doubled is not None:
        start, length = doubled
        stream[start:start] = stream[start : start + length]
    talk(listener, bytes(stream[:cut]))


PIECES = st.one_of(
    st.binary(max_size=40),
    st.builds(wire.pdu, st.integers(0, 9), st.binary(max_size=60), st.none() | st.integers(0, 2**32 - 1)),
    st.builds(
        lambda data, control, number, length: wire.pdu(4, wire.pdv(data, control, number, length)),
        st.binary(max_size=60) | st.just(wire.store_command(UID)),
        st.integers(0, 7),
        st.sampled_from([1, 1, 1, 3, 255]),
        st.none() | st.integers(0, 2**32 - 1),
    ),
    st.sampled_from([wire.associate_rq(), wire.pdu(4, wire.pdv(wire.store_command(UID), 3)), wire.pdu(4, wire.pdv(data_set(), 2))]),
)


@FUZZ
@given(pieces=st.lists(PIECES, max_size=8), established=st.booleans())
def test_pdus_in_any_order(listener: StorageListener, pieces: list[bytes], established: bool) -> None:
    talk(listener, (wire.associate_rq() if established else b"") + b"".join(pieces))


def talk(listener: StorageListener, stream: bytes) -> None:
    """Send everything and read every answer: no defect is logged, and no thread remains."""
    with captured_logs(dicom_listener.dispatch) as logs:
        with wire.raw_peer(listener.port) as peer:
            peer.send(stream)
            peer.finish()
        wait_for("the end of the association", lambda: listener.open_associations == 0, every=0.001)
    assert [e for e in logs if e["event"] in ("association_failed", "association_end_failed", "service_failed")] == []


@pytest.mark.parametrize(
    "instance",
    [
        b"../../../../etc/cron.d/x",
        b"/etc/passwd",
        b"1.2\x003",
        b"1.2.3\n",
        b"1" * 65,
        b"",
        b"..",
        b"1.2.3\\4",
        b"\xff" * 20,
        b"%2e%2e",
    ],
)
def test_no_instance_uid_becomes_a_path(listener: StorageListener, tmp_path: Path, instance: bytes) -> None:
    with wire.raw_peer(listener.port) as peer:
        peer.associate()
        data = data_set().replace(UID, instance.ljust(len(UID), b"\0")[: len(UID)])
        peer.send(conversation(instance, data)[len(wire.associate_rq()) :])
        assert peer.status() >= 0xA900
        # the association continues: one bad instance does not block the others
        peer.send(conversation()[len(wire.associate_rq()) :])
        assert peer.status() == 0
    wait_for("the end", lambda: listener.open_associations == 0)
    nothing_strange_in(tmp_path)


def test_an_instance_over_the_limit_is_skipped_and_the_next_one_stored(listener: StorageListener, tmp_path: Path) -> None:
    with wire.raw_peer(listener.port) as peer:
        peer.associate()
        peer.send(conversation(data=data_set(1, size=1024), piece=60_000)[len(wire.associate_rq()) :])
        assert peer.status() == 0xA702
        peer.send(conversation()[len(wire.associate_rq()) :])
        assert peer.status() == 0
    wait_for("the end", lambda: listener.open_associations == 0)
    assert list(tmp_path.rglob("*.partial")) == []


def test_an_endless_instance_takes_no_memory(listener: StorageListener) -> None:
    """300 MB of one data set: bytes over the limit are dropped."""
    process = psutil.Process()
    with wire.raw_peer(listener.port) as peer:
        peer.associate()
        peer.send(wire.pdu(4, wire.pdv(wire.store_command(UID), 3)), wire.pdu(4, wire.pdv(data_set(), 0)))
        block = wire.pdu(4, wire.pdv(bytes(200_000), 0))
        peer.send(block)
        before = process.memory_info().rss
        for _ in range(1500):
            peer.send(block)
        grown = process.memory_info().rss - before
        peer.send(wire.pdu(4, wire.pdv(b"", 2)))
        assert peer.status() == 0xA702
    assert grown < 20 * 2**20


@pytest.mark.parametrize("sop_class", ["1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.1"])
def test_operations_that_no_service_offers_are_answered(listener: StorageListener, sop_class: str) -> None:
    with wire.raw_peer(listener.port) as peer:
        peer.send(wire.associate_rq(wire.context(1, sop_class, ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"])))
        assert peer.read()[0] == wire.ASSOCIATE_AC
        move = wire.store_command(UID, field=b"\x21\x00", data_set=b"\x01\x01")
        peer.send(wire.pdu(4, wire.pdv(move, 3)))
        assert peer.status() == 0x0211
        # neither a C-CANCEL-RQ nor a response to nothing is answered
        peer.send(wire.pdu(4, wire.pdv(wire.store_command(UID, field=b"\xff\x0f", message=None, data_set=b"\x01\x01"), 3)))
        peer.send(wire.pdu(4, wire.pdv(wire.store_command(UID, field=b"\x01\x80", data_set=b"\x01\x01"), 3)))
        peer.send(wire.pdu(wire.RELEASE_RQ, bytes(4)))
        assert peer.read()[0] == wire.RELEASE_RP


def test_half_a_pdu_and_then_silence(tmp_path: Path) -> None:
    with running(listener_settings(tmp_path, idle_timeout_s=0.3)) as listener:
        with wire.raw_peer(listener.port) as peer:
            peer.associate()
            peer.send(conversation()[len(wire.associate_rq()) : -7])
            assert peer.read()[0] == wire.ABORT
        wait_for("the end", lambda: listener.open_associations == 0)
        serves_a_good_sender(listener)
    assert list(tmp_path.rglob("*.partial")) == []


def echoes_without_end(peer: wire.RawPeer) -> None:
    """Ask until the listener's answers, which are never read, fill every buffer."""
    peer.send(wire.associate_rq(wire.context(1, "1.2.840.10008.1.1")))
    assert peer.read()[0] == wire.ASSOCIATE_AC
    echo = wire.store_command(b"", "1.2.840.10008.1.1", field=b"\x30\x00", data_set=b"\x01\x01", instance=None)
    peer.sock.settimeout(1)
    with suppress(TimeoutError, ConnectionError):
        for _ in range(10_000):
            peer.sock.sendall(wire.pdu(4, wire.pdv(echo, 3)) * 100)


def test_a_peer_that_never_reads_is_ended(tmp_path: Path) -> None:
    with running(listener_settings(tmp_path, idle_timeout_s=0.5)) as listener:
        with wire.raw_peer(listener.port) as peer:
            echoes_without_end(peer)
            wait_for("the end", lambda: listener.open_associations == 0)
        serves_a_good_sender(listener)


def test_a_peer_that_never_reads_does_not_delay_the_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_listener.server, "ABORT_TIMEOUT_S", 0.2)
    with running(listener_settings(tmp_path, idle_timeout_s=600)) as listener, wire.raw_peer(listener.port) as peer:
        echoes_without_end(peer)
        listener.stop(timeout_s=0.1)
        assert listener.open_associations == 0


def test_many_silent_connections_keep_no_sender_out(listener: StorageListener) -> None:
    """Other addresses of loopback stand for other hosts."""
    silent = []
    try:
        for _ in range(3 * MAX_UNASSOCIATED_PER_HOST):
            one = socket.create_connection(("127.0.0.1", listener.port), source_address=("127.0.0.66", 0))
            one.sendall(b"\x01")
            silent.append(one)
        wait_for("most to be closed", lambda: len(listener._threads) <= MAX_UNASSOCIATED_PER_HOST)
        assert threading.active_count() < MAX_UNASSOCIATED_PER_HOST + 20
        serves_a_good_sender(listener)
    finally:
        for one in silent:
            one.close()


def test_an_abort_within_an_instance_leaves_nothing_of_it(listener: StorageListener, here: Settings, tmp_path: Path) -> None:
    with wire.raw_peer(listener.port) as peer:
        peer.associate()
        peer.send(conversation()[len(wire.associate_rq()) :])
        assert peer.status() == 0
        begun = conversation(data=data_set(2, size=400), piece=100_000)[len(wire.associate_rq()) : -50_000]
        peer.send(begun[: -(len(begun) % 100_006) or None], wire.pdu(wire.ABORT, bytes(4)))
        wait_for("the end", lambda: listener.open_associations == 0)
    (folder,) = arrivals(here)
    assert len(images(folder)) == 1
    nothing_strange_in(tmp_path)


def test_a_reset_leaves_no_thread_and_no_descriptor(listener: StorageListener) -> None:
    def descriptors() -> int:
        return psutil.Process().num_fds()

    serves_a_good_sender(listener)
    wait_for("rest", lambda: not listener._threads)
    before = descriptors(), threading.active_count()
    for size in (0, 1, 5, 6, 80, 300, 420):
        sock = socket.create_connection(("127.0.0.1", listener.port))
        sock.sendall(conversation()[:size])
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    wait_for("all to be forgotten", lambda: (descriptors(), threading.active_count()) == before)


def test_a_scanner_does_not_fill_the_log(listener: StorageListener) -> None:
    with captured_logs(dicom_listener.server) as logs:
        for n in range(200):
            with wire.raw_peer(listener.port) as peer:
                peer.send(wire.associate_rq(called=f"AE{n}".encode()) if n % 2 else b"GET / HTTP/1.1\r\n\r\n")
                peer.finish()
    assert [e["event"] for e in logs] == ["connection_refused", "association_rejected"]


def test_a_defect_within_an_association_ends_only_that_one(listener: StorageListener, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, captured_logs(dicom_listener.dispatch) as logs:
        patch.setattr(MessageDispatcher, "receive", lambda *_: 1 / 0)
        with wire.raw_peer(listener.port) as peer:
            peer.associate()
            peer.send(wire.pdu(4, wire.pdv(b"x", 3)))
            assert peer.read()[0] == wire.ABORT
    assert [e["event"] for e in logs] == ["association_failed"]
    serves_a_good_sender(listener)
