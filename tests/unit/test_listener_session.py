from __future__ import annotations

import errno
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from corewatch.arrival import ArrivalOutcome
from dicom_listener import disk as disk_module
from dicom_listener import session as session_module
from dicom_listener.disk import GIB, DiskGuard
from dicom_listener.instance import StoreRequest
from dicom_listener.session import Session, Spool
from dicom_listener.status import ASSOCIATION_ENDED, OUT_OF_RESOURCES, SUCCESS, WRONG_SOP_CLASS
from ledger.spool import instance_files
from tests.support.listener import captured_logs, ct_slice, file_bytes

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Disk:
    """A disk whose free space the test decides."""

    free = 10 * GIB

    def __call__(self, _folder: Path) -> int:
        return self.free


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def session(tmp_path: Path, disk: Disk) -> Session:
    return Session(Spool(tmp_path, DiskGuard(tmp_path, 2, disk), lambda: NOW), "PACS", "10.0.0.7")


def message(number: int = 1) -> tuple[StoreRequest, memoryview]:
    dataset = ct_slice(number)
    data = file_bytes(dataset)
    meta = data.index(b"\x08\x00\x16\x00")
    request = StoreRequest(str(dataset.SOPClassUID), str(dataset.SOPInstanceUID), str(dataset.file_meta.TransferSyntaxUID))
    return request, memoryview(data)[meta:]


def fail_with(number: int):
    def fail(*_args: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_nothing_is_left_where_no_image_came(session: Session, tmp_path: Path) -> None:
    session.close(ArrivalOutcome.RELEASED)
    assert list(tmp_path.iterdir()) == []


def test_images_of_one_association_are_one_arrival(session: Session, tmp_path: Path) -> None:
    assert [session.store(*message(n)) for n in (1, 2, 3, 3)] == [SUCCESS] * 4
    session.close(ArrivalOutcome.RELEASED)
    (folder,) = tmp_path.iterdir()
    assert len(instance_files(folder)) == 3
    assert json.loads((folder / "arrival.json").read_bytes())["peer_ae_title"] == "PACS"
    assert json.loads((folder / "closed.json").read_bytes()) == {
        "closed_at": NOW.isoformat(),
        "outcome": "released",
        "stored": 3,
    }


def test_the_first_end_counts(session: Session, tmp_path: Path) -> None:
    session.store(*message())
    session.close(ArrivalOutcome.ABORTED)
    session.close(ArrivalOutcome.RELEASED)
    (folder,) = tmp_path.iterdir()
    assert json.loads((folder / "closed.json").read_bytes())["outcome"] == "aborted"
    assert session.store(*message(2)) is ASSOCIATION_ENDED
    assert len(instance_files(folder)) == 1


@pytest.mark.parametrize("call", ["fsync", "write", "open"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_fault_of_the_disk_is_answered_and_leaves_no_image(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    assert session.store(*message(1)) is SUCCESS
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail_with(number))
        assert session.store(*message(2)) is OUT_OF_RESOURCES
    (folder,) = tmp_path.iterdir()
    assert len(instance_files(folder)) == 1
    assert session.store(*message(2)) is SUCCESS
    assert len(instance_files(folder)) == 2


def test_a_fault_when_the_folder_is_synced_is_no_success(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session.store(*message(1))
    real, calls = os.fsync, []

    def second_fails(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.EIO, "input/output error")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", second_fails)
    assert session.store(*message(2)) is OUT_OF_RESOURCES


def test_below_the_reserve_nothing_is_written(session: Session, tmp_path: Path, disk: Disk) -> None:
    disk.free = 2 * GIB
    assert session.store(*message()) is OUT_OF_RESOURCES
    assert list(tmp_path.iterdir()) == []
    disk.free = 3 * GIB
    assert session.store(*message()) is SUCCESS


def test_a_shortage_is_logged_once_not_for_every_image(session: Session, disk: Disk) -> None:
    with captured_logs(disk_module, session_module) as logs:
        disk.free = 0
        for n in range(5):
            session.store(*message(n))
        disk.free = 10 * GIB
        session.store(*message(1))
        session.store(*message(2))
        disk.free = 0
        session.store(*message(3))
    events = [e["event"] for e in logs if "disk" in e["event"]]
    assert events == ["disk_nearly_full", "disk_usable_again", "disk_nearly_full"]


def test_refused_images_are_counted_in_the_log_without_patient_data(session: Session) -> None:
    request, data = message()
    wrong = StoreRequest("1.2.840.10008.5.1.4.1.1.4", request.sop_instance_uid, request.transfer_syntax_uid)
    with captured_logs(disk_module, session_module) as logs:
        assert session.store(wrong, data) is WRONG_SOP_CLASS
        session.store(request, data)
        session.close(ArrivalOutcome.RELEASED)
    closed = next(e for e in logs if e["event"] == "arrival_closed")
    assert (closed["stored"], closed["refused"], closed["outcome"]) == (1, 1, "released")
    assert "Secret" not in repr(logs)


def test_an_end_that_cannot_be_written_is_no_crash(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session.store(*message())
    monkeypatch.setattr(os, "fsync", fail_with(errno.ENOSPC))
    session.close(ArrivalOutcome.RELEASED)
    (folder,) = tmp_path.iterdir()
    assert not (folder / "closed.json").exists()
    assert len(instance_files(folder)) == 1
