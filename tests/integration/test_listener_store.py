"""The listener in this process, against a Storage SCU of pynetdicom and against raw sockets."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread, uid

import dicom_listener.dispatch
import dicom_listener.server
import dicom_listener.storage_scp
from corewatch.errors import ConfigurationError
from dicom_listener.server import StorageListener
from dicom_listener.storage_status import NOT_DICOM, OUT_OF_RESOURCES, WRONG_SOP_CLASS
from tests.support.listener import (
    arrivals,
    associate,
    captured_logs,
    closing,
    ct_slice,
    images,
    listener_settings,
    running,
    send,
)
from tests.support.net import wait_for


def test_what_is_sent_is_stored_as_it_was(tmp_path: Path) -> None:
    settings = listener_settings(tmp_path)
    with running(settings) as listener:
        association = associate(listener.port, calling="SCANNER")
        assert send(association, 1, 2, 3) == [0, 0, 0]
        assert len(images(arrivals(settings)[0])) == 3, "stored before it was acknowledged"
        association.release()
        (folder,) = arrivals(settings)
        assert closing(folder)["outcome"] == "released"
    stored = {d.InstanceNumber: d for d in map(dcmread, images(folder))}
    assert sorted(stored) == [1, 2, 3]
    assert all(stored[n] == ct_slice(n) for n in stored)
    assert stored[1].file_meta.TransferSyntaxUID == uid.ExplicitVRLittleEndian


def test_an_echo_or_a_health_check_leaves_nothing_behind(tmp_path: Path) -> None:
    settings = listener_settings(tmp_path)
    with running(settings) as listener:
        with socket.create_connection(("127.0.0.1", listener.port)):
            pass
        association = associate(listener.port, ["1.2.840.10008.1.1"])
        assert association.send_c_echo().Status == 0
        association.release()
        wait_for("the association to end", lambda: listener.open_associations == 0)
    assert arrivals(settings) == []


def test_an_abort_keeps_the_acknowledged_instances(tmp_path: Path) -> None:
    settings = listener_settings(tmp_path)
    with running(settings) as listener:
        association = associate(listener.port)
        send(association, 1, 2)
        association.abort()
        (folder,) = arrivals(settings)
        assert closing(folder) == {**closing(folder), "outcome": "aborted", "stored": 2}
    assert [dcmread(f).InstanceNumber for f in images(folder)] != []
    assert all(dcmread(f) == ct_slice(dcmread(f).InstanceNumber) for f in images(folder))


def test_a_connection_that_breaks_within_an_instance_counts_as_aborted(tmp_path: Path) -> None:
    settings = listener_settings(tmp_path)
    with running(settings) as listener:
        association = associate(listener.port)
        send(association, 1)
        raw = association.dul.socket.socket
        # the beginning of a P-DATA-TF of 1000 bytes, then a reset
        raw.sendall(struct.pack(">BBL", 4, 0, 1000) + b"half")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.close()
        association.abort()
        (folder,) = arrivals(settings)
        assert closing(folder)["outcome"] == "aborted"
    assert len(images(folder)) == 1


def test_a_silent_association_is_ended(tmp_path: Path) -> None:
    settings = listener_settings(tmp_path, idle_timeout_s=0.3)
    with running(settings) as listener:
        association = associate(listener.port)
        send(association, 1)
        association._reactor_checkpoint.clear()  # the peer hangs: it answers nothing any more
        (folder,) = arrivals(settings)
        assert closing(folder)["outcome"] == "aborted"
        association._reactor_checkpoint.set()
        association.abort()


def test_an_association_that_is_silent_within_a_pdu_is_ended(tmp_path: Path) -> None:
    settings = listener_settings(tmp_path, idle_timeout_s=0.3)
    with running(settings) as listener:
        association = associate(listener.port)
        send(association, 1)
        association.dul.socket.socket.sendall(struct.pack(">BBL", 4, 0, 1000) + b"half")
        (folder,) = arrivals(settings)
        assert closing(folder)["outcome"] == "aborted"
        association.abort()


def test_interleaved_associations_are_separate_arrivals(tmp_path: Path) -> None:
    settings = listener_settings(tmp_path)
    with running(settings) as listener:
        first, second = associate(listener.port, calling="ONE"), associate(listener.port, calling="TWO")
        for n in range(1, 6):
            assert send(first, n) == send(second, n + 100) == [0]
        first.release()
        second.abort()
        one, two = sorted(arrivals(settings), key=lambda f: "ONE" not in (f / "arrival.json").read_text())
        assert (closing(one)["outcome"], closing(two)["outcome"]) == ("released", "aborted")
    assert sorted(dcmread(f).InstanceNumber for f in images(one)) == [1, 2, 3, 4, 5]
    assert sorted(dcmread(f).InstanceNumber for f in images(two)) == [101, 102, 103, 104, 105]


def test_the_same_instance_sent_again_is_the_same_file(tmp_path: Path) -> None:
    settings = listener_settings(tmp_path)
    with running(settings) as listener:
        for calling in ("ONE", "TWO"):
            association = associate(listener.port, calling=calling)
            assert send(association, 7, 7) == [0, 0]
            association.release()
        one, two = arrivals(settings)
        assert closing(one)["stored"] == closing(two)["stored"] == 1
    assert [f.name for f in images(one)] == [f.name for f in images(two)]
    assert images(one)[0].read_bytes() == images(two)[0].read_bytes()


def test_a_full_disk_is_answered_with_a700_and_leaves_no_instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = listener_settings(tmp_path)
    with running(settings) as listener:
        association = associate(listener.port)
        assert send(association, 1) == [0]

        def full(_descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "no space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            answer = association.send_c_store(ct_slice(2))
            assert answer.Status == OUT_OF_RESOURCES.code
            assert "disk" in answer.ErrorComment
        (folder,) = arrivals(settings)
        assert len(images(folder)) == 1
        assert send(association, 2) == [0], "the sender may try again over the same association"
        association.release()
        assert closing(folder)["stored"] == 2


def test_success_follows_the_last_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = listener_settings(tmp_path)
    release = threading.Event()
    entered = threading.Event()
    real = os.fsync

    def held(descriptor: int) -> None:
        entered.set()
        assert release.wait(10)
        real(descriptor)

    with running(settings) as listener:
        association = associate(listener.port)
        monkeypatch.setattr(os, "fsync", held)
        answers: list[int] = []
        sender = threading.Thread(target=lambda: answers.extend(send(association, 1)))
        sender.start()
        assert entered.wait(10)
        assert answers == []
        release.set()
        sender.join()
        assert answers == [0]
        association.release()


def test_contradictions_get_the_status_of_the_standard(tmp_path: Path) -> None:
    settings = listener_settings(tmp_path)
    with running(settings) as listener:
        association = associate(listener.port, [uid.CTImageStorage, uid.MRImageStorage])
        lying = ct_slice(1)
        lying.file_meta.MediaStorageSOPClassUID = lying.SOPClassUID = uid.MRImageStorage
        request = lying
        original = association.dimse.send_msg

        def tamper(primitive: Any, context_id: int) -> None:
            primitive.AffectedSOPClassUID = uid.CTImageStorage
            original(primitive, 1)

        association.dimse.send_msg = tamper
        assert association.send_c_store(request).Status == WRONG_SOP_CLASS.code
        association.dimse.send_msg = original
        association.release()
        wait_for("the association to end", lambda: listener.open_associations == 0)
    assert arrivals(settings) == []


def test_an_invalid_data_set_is_refused(tmp_path: Path) -> None:
    settings = listener_settings(tmp_path)
    with running(settings) as listener:
        association = associate(listener.port)
        original = association.dimse.send_msg

        def tamper(primitive: Any, context_id: int) -> None:
            primitive.DataSet.seek(0)
            primitive.DataSet.truncate()
            primitive.DataSet.write(b"\xff" * 64)
            original(primitive, context_id)

        association.dimse.send_msg = tamper
        assert association.send_c_store(ct_slice(1)).Status == NOT_DICOM.code
        association.abort()
    assert arrivals(settings) == []


def test_a_defect_is_no_success_and_is_logged_without_its_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object) -> None:
        raise RuntimeError("Secret^Name")

    monkeypatch.setattr(dicom_listener.storage_scp, "check_instance", broken)
    with running(listener_settings(tmp_path)) as listener, captured_logs(dicom_listener.dispatch) as logs:
        association = associate(listener.port)
        assert send(association, 1) == [0xC211]
        assert association.is_established
        association.release()
    assert [e["event"] for e in logs] == ["service_failed"]
    assert "Secret" not in repr(logs)


@pytest.mark.parametrize(
    ("sop_class", "offered", "accepted"),
    [
        (uid.CTImageStorage, [uid.JPEG2000Lossless, uid.ExplicitVRLittleEndian], uid.ExplicitVRLittleEndian),
        (uid.CTImageStorage, [uid.JPEGBaseline8Bit, uid.JPEGLosslessSV1], uid.JPEGLosslessSV1),
        (uid.CTImageStorage, [uid.MPEG4HP41], None),
        (uid.EnhancedCTImageStorage, [uid.ImplicitVRLittleEndian], uid.ImplicitVRLittleEndian),
        (uid.VideoEndoscopicImageStorage, [uid.MPEG4HP41], uid.MPEG4HP41),
        (uid.EncapsulatedPDFStorage, [uid.ExplicitVRLittleEndian], uid.ExplicitVRLittleEndian),
        ("1.3.12.2.1107.5.9.1", [uid.ImplicitVRLittleEndian], uid.ImplicitVRLittleEndian),
    ],
)
def test_negotiation(tmp_path: Path, sop_class: str, offered: list[str], accepted: str | None) -> None:
    with running(listener_settings(tmp_path)) as listener:
        association = associate(listener.port, [sop_class, "1.2.840.10008.1.1"], transfer_syntaxes=offered)
        found = [c.transfer_syntax[0] for c in association.accepted_contexts if c.abstract_syntax == sop_class]
        assert found == ([] if accepted is None else [accepted])
        if association.is_established:
            association.release()


def test_stopping_lets_an_association_finish(tmp_path: Path) -> None:
    settings = listener_settings(tmp_path)
    listener = StorageListener(settings)
    listener.start()
    association = associate(listener.port)
    send(association, 1)
    stopper = threading.Thread(target=listener.stop, args=(10,))
    stopper.start()
    wait_for("new connections to be refused", lambda: not associate(listener.port).is_established)
    assert send(association, 2, 3) == [0, 0]
    association.release()
    stopper.join(10)
    assert not stopper.is_alive()
    assert closing(arrivals(settings)[0]) == {**closing(arrivals(settings)[0]), "outcome": "released", "stored": 3}


def test_stopping_aborts_associations_that_do_not_finish(tmp_path: Path) -> None:
    settings = listener_settings(tmp_path)
    with running(settings) as listener:
        association = associate(listener.port)
        send(association, 1)
        listener.stop(timeout_s=0.1)
        wait_for("the abort", lambda: association.is_aborted)
    assert closing(arrivals(settings)[0])["outcome"] == "interrupted"


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    settings = listener_settings(tmp_path)

    def descriptors() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    with running(settings) as listener:
        before = descriptors()
        for n in range(10):
            association = associate(listener.port)
            send(association, n)
            association.abort() if n % 2 else association.release()
        wait_for("descriptors to be closed", lambda: descriptors() <= before)


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}"):
            StorageListener(listener_settings(tmp_path, port=port))


def test_the_log_holds_no_patient_data(tmp_path: Path) -> None:
    settings = listener_settings(tmp_path)
    with captured_logs(dicom_listener.server, dicom_listener.storage_scp) as logs, running(settings) as listener:
        listener.announce()
        association = associate(listener.port)
        send(association, 1)
        association.release()
        closing(arrivals(settings)[0])
        wait_for("the log line", lambda: any(e["event"] == "arrival_closed" for e in logs))
    assert [e["event"] for e in logs] == ["listening", "arrival_opened", "arrival_closed"]
    assert logs[0]["port"] == listener.port
    assert "Secret" not in repr(logs)
    assert ct_slice().SOPInstanceUID not in repr(logs)
