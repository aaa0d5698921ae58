from __future__ import annotations

import errno
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from corewatch.arrival import ArrivalOutcome, Closing
from corewatch.units import GIB
from dicom_listener import disk_guard as disk_module
from dicom_listener import storage_scp as storage_module
from dicom_listener.dimse import Command, Tag
from dicom_listener.disk_guard import LOG_AGAIN_AFTER_S, DiskGuard
from dicom_listener.negotiation import Context
from dicom_listener.part10 import HEAD_BYTES
from dicom_listener.services import DimseRequest, Sender
from dicom_listener.storage_scp import SpoolTarget, StorageSession
from dicom_listener.storage_status import ALL, NOT_DICOM, OUT_OF_RESOURCES, SUCCESS, TOO_LARGE, WRONG_SOP_CLASS, StorageStatus
from ledger.spool import instance_files, read_closing, write_closing
from tests.support.listener import captured_logs, ct_slice, file_bytes

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MOST = 2**20


class Disk:
    """A disk whose free space the test decides."""

    free = 10 * GIB

    def __call__(self, _folder: Path) -> int:
        return self.free


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def session(tmp_path: Path, disk: Disk) -> StorageSession:
    return StorageSession(
        SpoolTarget(tmp_path, DiskGuard(tmp_path, 2, disk), lambda: NOW, max_instance_bytes=MOST), Sender("PACS", "10.0.0.7")
    )


def data_set(number: int, size: int = 8) -> bytes:
    data = file_bytes(ct_slice(number, size=size))
    return data[data.index(b"\x08\x00\x16\x00") :]


def request(number: int, sop_class: str = CTImageStorage) -> DimseRequest:
    uid = str(ct_slice(number).SOPInstanceUID)
    command = Command({Tag.AFFECTED_SOP_CLASS_UID: sop_class.encode(), Tag.AFFECTED_SOP_INSTANCE_UID: uid.encode()})
    return DimseRequest(command, Context(1, CTImageStorage, ExplicitVRLittleEndian))


def store(
    session: StorageSession, number: int = 1, *, size: int = 8, piece: int = 2**20, sop_class: str = CTImageStorage
) -> StorageStatus:
    """Send slice `number` in pieces; returns the answer."""
    data = memoryview(data_set(number, size))
    image = session.begin(request(number, sop_class))
    for start in range(0, len(data), piece):
        image.write(data[start : start + piece])
    reply = image.finish()
    return next(s for s in ALL if (s.code, s.comment) == (reply.status, reply.comment))


def fail_with(number: int):
    def fail(*_args: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_without_an_instance_there_is_no_arrival(session: StorageSession, tmp_path: Path) -> None:
    session.close(ArrivalOutcome.RELEASED)
    assert list(tmp_path.iterdir()) == []


def test_instances_of_one_association_are_one_arrival(session: StorageSession, tmp_path: Path) -> None:
    assert [store(session, n) for n in (1, 2, 3, 3)] == [SUCCESS] * 4
    session.close(ArrivalOutcome.RELEASED)
    (folder,) = tmp_path.iterdir()
    assert len(instance_files(folder)) == 3
    assert json.loads((folder / "arrival.json").read_bytes())["peer_ae_title"] == "PACS"
    assert json.loads((folder / "closed.json").read_bytes()) == {
        "closed_at": NOW.isoformat(),
        "outcome": "released",
        "stored": 3,
    }


@pytest.mark.parametrize("piece", [7, 4096, HEAD_BYTES - 1, HEAD_BYTES, HEAD_BYTES + 1, 2**20])
def test_the_fragments_make_no_difference(session: StorageSession, tmp_path: Path, piece: int) -> None:
    assert store(session, 1, size=256, piece=piece) is SUCCESS
    (folder,) = tmp_path.iterdir()
    (file,) = instance_files(folder)
    assert file.read_bytes().endswith(data_set(1, 256))
    assert dcmread(file) == ct_slice(1, size=256)


def test_an_incomplete_instance_leaves_nothing(session: StorageSession, tmp_path: Path) -> None:
    store(session, 1)
    image = session.begin(request(2))
    image.write(memoryview(data_set(2, 300)))
    image.discard()
    (folder,) = tmp_path.iterdir()
    assert sorted(f.suffix for f in folder.iterdir()) == [".dcm", ".json", ".lock"]


def test_too_large_an_instance_is_refused_and_leaves_nothing(session: StorageSession, tmp_path: Path) -> None:
    assert store(session, 1, size=1024, piece=100_000) is TOO_LARGE, "2 MiB"
    assert list(tmp_path.rglob("*.partial")) == []
    assert store(session, 1, size=700, piece=100_000) is SUCCESS


def test_a_long_instance_is_never_held_in_memory(session: StorageSession, tmp_path: Path) -> None:
    """Every fragment after the beginning is on disk at once."""
    image = session.begin(request(1))
    image.write(memoryview(data_set(1, 400)))
    for size in (400_000, 500_000, 600_000):
        image.write(memoryview(bytes(100_000)))
        (partial,) = tmp_path.rglob("*.partial")
        assert partial.stat().st_size > size
    image.discard()


def test_garbage_is_refused_before_a_file_is_made(session: StorageSession, tmp_path: Path) -> None:
    image = session.begin(request(1))
    image.write(memoryview(b"\xff" * 100_000))
    assert list(tmp_path.iterdir()) == []
    image.write(memoryview(b"\xff" * 100_000))
    assert image.finish().status == NOT_DICOM.code


@pytest.mark.parametrize("call", ["fsync", "write", "open"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_fault_of_the_disk_is_answered_and_leaves_no_instance(
    session: StorageSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    assert store(session, 1) is SUCCESS
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail_with(number))
        assert store(session, 2) is OUT_OF_RESOURCES
    (folder,) = tmp_path.iterdir()
    assert len(instance_files(folder)) == 1
    assert store(session, 2) is SUCCESS
    assert len(instance_files(folder)) == 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_fault_in_the_middle_of_an_instance_leaves_nothing(
    session: StorageSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store(session, 1)
    real, written = os.write, 0

    def write(descriptor: int, data: memoryview) -> int:
        nonlocal written
        written += len(data)
        if written > 200_000:
            raise OSError(number, os.strerror(number))
        return real(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        assert store(session, 2, size=512, piece=50_000) is OUT_OF_RESOURCES
    assert list(tmp_path.rglob("*.partial")) == []
    assert store(session, 2, size=512, piece=50_000) is SUCCESS


def test_a_fault_when_the_folder_is_synced_is_no_success(
    session: StorageSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(session, 1)
    real, calls = os.fsync, []

    def second_fails(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.EIO, "input/output error")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", second_fails)
    assert store(session, 2) is OUT_OF_RESOURCES
    (folder,) = tmp_path.iterdir()
    assert len(instance_files(folder)) == 1, "the next try must not take it for stored"
    assert store(session, 2) is SUCCESS
    assert len(calls) == 4, "file and folder again"


def test_below_the_reserve_nothing_is_written(session: StorageSession, tmp_path: Path, disk: Disk) -> None:
    disk.free = 2 * GIB
    assert store(session) is OUT_OF_RESOURCES
    assert list(tmp_path.iterdir()) == []
    disk.free = 3 * GIB
    assert store(session) is SUCCESS


def test_a_shortage_is_logged_once_not_for_every_instance(tmp_path: Path, disk: Disk) -> None:
    now = 0.0
    guard = DiskGuard(tmp_path, 2, disk, lambda: now)
    session = StorageSession(SpoolTarget(tmp_path, guard, lambda: NOW), Sender("PACS", "10.0.0.7"))
    with captured_logs(disk_module, storage_module) as logs:
        for n in range(40):
            disk.free = 0 if n % 10 < 5 else 10 * GIB  # the free space varies around the limit
            store(session, n)
        assert events(logs) == ["disk_nearly_full", "disk_usable_again"]
        now = LOG_AGAIN_AFTER_S - 1
        disk.free = 0
        store(session, 41)
        assert len(events(logs)) == 2
        now = LOG_AGAIN_AFTER_S
        store(session, 42)
        store(session, 43)
        disk.free = 10 * GIB
        store(session, 44)
    assert events(logs) == ["disk_nearly_full", "disk_usable_again"] * 2


def events(logs: list[Any]) -> list[str]:
    return [e["event"] for e in logs if "disk" in e["event"]]


def test_refused_instances_are_counted_in_the_log_without_patient_data(session: StorageSession) -> None:
    with captured_logs(disk_module, storage_module) as logs:
        assert store(session, sop_class="1.2.840.10008.5.1.4.1.1.4") is WRONG_SOP_CLASS
        store(session)
        session.close(ArrivalOutcome.RELEASED)
    closed = next(e for e in logs if e["event"] == "arrival_closed")
    assert (closed["stored"], closed["refused"], closed["outcome"]) == (1, 1, "released")
    assert "Secret" not in repr(logs)


def test_an_end_that_cannot_be_written_is_no_crash(
    session: StorageSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(session)
    monkeypatch.setattr(os, "fsync", fail_with(errno.ENOSPC))
    session.close(ArrivalOutcome.RELEASED)
    (folder,) = tmp_path.iterdir()
    assert not (folder / "closed.json").exists()
    assert len(instance_files(folder)) == 1


def test_an_arrival_that_the_daemon_has_ended_gets_no_further_instance(session: StorageSession, tmp_path: Path) -> None:
    given_up = Closing(NOW, ArrivalOutcome.ABORTED, 1)
    assert store(session, 1) is SUCCESS
    (first,) = tmp_path.iterdir()
    write_closing(first, given_up)
    assert store(session, 2) is SUCCESS
    (second,) = set(tmp_path.iterdir()) - {first}
    assert (len(instance_files(first)), len(instance_files(second))) == (1, 1)

    # it ends while an image is on its way: the sender keeps that one, and brings it again
    image = session.begin(request(3))
    image.write(memoryview(data_set(3, 256)))
    write_closing(second, given_up)
    assert image.finish().status == OUT_OF_RESOURCES.code
    assert store(session, 3, size=256) is SUCCESS
    session.close(ArrivalOutcome.RELEASED)
    (third,) = set(tmp_path.iterdir()) - {first, second}
    assert len(instance_files(third)) == 1
    assert read_closing(third) == Closing(NOW, ArrivalOutcome.RELEASED, 1)
    assert read_closing(second) == given_up


def test_each_refusal_is_reported_with_its_sender(tmp_path: Path, disk: Disk) -> None:
    seen: list[tuple[str, int]] = []
    spool = SpoolTarget(tmp_path, DiskGuard(tmp_path, 2, disk), lambda: NOW, max_instance_bytes=MOST)
    one = StorageSession(
        spool, Sender("PACS", "10.0.0.7"), on_refused=lambda sender, status: seen.append((sender.ae_title, status.code))
    )
    for _ in range(2):
        sink = one.begin(request(1))
        sink.write(memoryview(b"no data set at all"))
        sink.finish()
    store(one, 2)
    assert seen == [("PACS", 0xC210)] * 2
