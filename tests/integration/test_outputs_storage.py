"""Sending to a real Storage SCP on loopback."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filereader import read_dataset
from pydicom.uid import (
    JPEG2000,
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    MRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

from corewatch.errors import OperatorNeeded, RetryLater
from foundation.dicom_client import association
from foundation.dicom_client import storage as storage_scu
from foundation.dicom_client.storage import StoreOutcome, StoreResult, classify_status, echo, send_files
from outputs.dicom.secondary_capture import Page
from tests.support.late import wake_late
from tests.support.results import make_case, write_pages
from tests.support.storage import NATIVE, storage_scp

ADDRESS = {"host": "127.0.0.1", "called_ae": "PACS", "calling_ae": "COREWATCH", "timeout_s": 5.0}


def ct_files(folder: Path, count: int = 3, *, syntax: str = ExplicitVRLittleEndian, sop_class: str = CTImageStorage) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        ds = Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID = sop_class, f"1.2.3.{sop_class[-3:].strip('.')}.{number + 1}"
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.PatientName, ds.PatientID = "1.2.4", "1.2.5", "A^B", "1"
        ds.Rows = ds.Columns = 64
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
        frame = np.full((64, 64), number, "<u2").tobytes()
        compressed = syntax == JPEG2000Lossless
        ds.add_new("PixelData", "OB" if compressed else "OW", encapsulate([b"not a codestream"]) if compressed else frame)
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = syntax
        ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
        path = folder / f"{sop_class[-3:]}-{number:03d}.dcm"
        ds["PixelData"].is_undefined_length = compressed
        ds.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def data_set(path: Path) -> bytes:
    """The bytes behind the file meta information."""
    meta = dcmread(path, stop_before_pixels=True).file_meta
    return path.read_bytes()[132 + 12 + meta.FileMetaInformationGroupLength :]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless])
def test_files_arrive_byte_for_byte(tmp_path: Path, syntax: str) -> None:
    """Nothing is decoded on the way: not the codestream, which is none, and not the retired group length, which would be lost."""
    paths = ct_files(tmp_path, syntax=syntax)
    for path in paths:
        elements = data_set(path)
        vr = b"\x04\0\0\0" if syntax == ImplicitVRLittleEndian else b"UL\x04\0"
        path.write_bytes(path.read_bytes()[: -len(elements)] + b"\x08\0\0\0" + vr + b"\x2a\0\0\0" + elements)
    seen: list[StoreOutcome] = []
    with storage_scp(syntaxes=(syntax,)) as pacs:
        outcomes = send_files(paths, port=pacs.port, progress=seen.append, **ADDRESS)
    assert [outcome.result for outcome in outcomes] == [StoreResult.ACCEPTED] * 3
    assert list(outcomes) == seen
    assert [pacs.received[outcome.sop_instance_uid] for outcome in outcomes] == [data_set(path) for path in paths]
    assert set(pacs.syntaxes.values()) == {str(syntax)}
    assert pacs.associations == 1


def test_our_objects_arrive(tmp_path: Path) -> None:
    case = make_case(tmp_path / "case")
    paths = write_pages(case, [Page(np.zeros((32, 32, 3), np.uint8), "summary")])
    with storage_scp(classes=(SecondaryCaptureImageStorage,)) as pacs:
        send_files(paths, port=pacs.port, **ADDRESS)
    assert list(pacs.received.values()) == [data_set(paths[0])]


def test_native_files_are_reencoded_for_a_peer_with_one_native_syntax(tmp_path: Path) -> None:
    paths = ct_files(tmp_path, 1)
    with storage_scp(syntaxes=(ImplicitVRLittleEndian,)) as pacs:
        (outcome,) = send_files(paths, port=pacs.port, **ADDRESS)
    assert outcome.result is StoreResult.ACCEPTED
    assert pacs.syntaxes[outcome.sop_instance_uid] == ImplicitVRLittleEndian
    received = tmp_path / "received"
    received.write_bytes(pacs.received[outcome.sop_instance_uid])
    ds = dcmread(received, force=True)
    assert ds.PixelData == dcmread(paths[0]).PixelData


@pytest.mark.parametrize("taken", NATIVE)
def test_lossless_files_are_decoded_for_a_peer_that_takes_native_ones_only(tmp_path: Path, taken: str) -> None:
    [path] = ct_files(tmp_path, 1)
    ds = dcmread(path)
    pixels = np.arange(64 * 64, dtype="<u2").reshape(64, 64)
    ds.PixelData = pixels.tobytes()
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.save_as(path, enforce_file_format=True)
    with storage_scp(syntaxes=(taken,)) as pacs:
        (outcome,) = send_files([path], port=pacs.port, **ADDRESS)
    assert outcome.result is StoreResult.ACCEPTED
    assert pacs.syntaxes == {ds.SOPInstanceUID: taken}
    received = read_dataset(BytesIO(pacs.received[ds.SOPInstanceUID]), taken == ImplicitVRLittleEndian, True)
    assert received.PixelData == pixels.tobytes()
    assert received.SOPInstanceUID == ds.SOPInstanceUID


def test_what_was_compressed_with_losses_is_not_decoded(tmp_path: Path) -> None:
    [path] = ct_files(tmp_path, 1, syntax=JPEG2000Lossless)
    ds = dcmread(path)
    ds.file_meta.TransferSyntaxUID = JPEG2000
    ds.save_as(path, enforce_file_format=True)
    with storage_scp() as pacs, pytest.raises(OperatorNeeded, match="does not take CT Image Storage"):
        send_files([path], port=pacs.port, **ADDRESS)


def test_big_endian_is_not_reencoded(tmp_path: Path) -> None:
    """Its pixel words would arrive with their bytes the wrong way round."""
    paths = ct_files(tmp_path, 1, syntax=ExplicitVRBigEndian)
    with storage_scp() as pacs, pytest.raises(OperatorNeeded, match="does not take CT Image Storage"):
        send_files(paths, port=pacs.port, **ADDRESS)


def test_failures_of_single_instances_are_outcomes(tmp_path: Path) -> None:
    statuses = {1: 0x0000, 2: 0xB000, 3: 0xA700, 4: 0xC210, 5: 0x0111}
    with storage_scp(statuses.__getitem__) as pacs:
        outcomes = send_files(ct_files(tmp_path, 5), port=pacs.port, **ADDRESS)
    assert [(o.status, o.result, o.temporary) for o in outcomes] == [
        (0x0000, StoreResult.ACCEPTED, False),
        (0xB000, StoreResult.WARNING, False),
        (0xA700, StoreResult.FAILED, True),
        (0xC210, StoreResult.FAILED, False),
        (0x0111, StoreResult.ACCEPTED, False),
    ]


def test_a_class_the_peer_does_not_take_fails_alone(tmp_path: Path) -> None:
    paths = [*ct_files(tmp_path, 1), *ct_files(tmp_path, 1, sop_class=MRImageStorage)]
    with storage_scp(classes=(CTImageStorage,)) as pacs:
        taken, refused = send_files(paths, port=pacs.port, **ADDRESS)
    assert taken.result is StoreResult.ACCEPTED
    assert (refused.result, refused.status) == (StoreResult.FAILED, None)
    assert "MR Image Storage" in refused.meaning


def test_no_class_taken_is_for_the_operator(tmp_path: Path) -> None:
    with storage_scp(classes=(MRImageStorage,)) as pacs, pytest.raises(OperatorNeeded, match="allow these SOP classes"):
        send_files(ct_files(tmp_path), port=pacs.port, **ADDRESS)


def test_more_presentation_contexts_than_one_association_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_scu, "MAX_CONTEXTS", 2)
    paths = [*ct_files(tmp_path, 2), *ct_files(tmp_path, 2, sop_class=SecondaryCaptureImageStorage)]
    with storage_scp() as pacs:
        outcomes = send_files(paths, port=pacs.port, **ADDRESS)
    assert [outcome.path for outcome in outcomes] == paths
    assert pacs.associations == 2


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_nobody_there_is_retried(tmp_path: Path) -> None:
    with pytest.raises(RetryLater, match="cannot be reached; check host, port, firewall"):
        send_files(ct_files(tmp_path), port=free_port(), **ADDRESS)


def test_unknown_host_is_retried(tmp_path: Path) -> None:
    with pytest.raises(RetryLater, match="cannot be reached"):
        send_files(ct_files(tmp_path), port=104, **(ADDRESS | {"host": "no-such-host.invalid"}))


def test_host_names_work() -> None:
    with storage_scp() as pacs:
        echo(port=pacs.port, **(ADDRESS | {"host": "localhost"}))


def test_a_silent_peer_is_retried() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(RetryLater, match="did not answer the association request"),
    ):
        echo(port=listener.getsockname()[1], **(ADDRESS | {"timeout_s": 0.5}))


@pytest.fixture(params=["in time", "late"])
def pace(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """What to call before the request: it lets the requestor look at its connection after the peer has closed it, or not."""
    return partial(wake_late, monkeypatch) if request.param == "late" else lambda: None


@pytest.mark.parametrize("options", [{"called": "OTHER"}, {"calling": ("SOMEBODY",)}])
def test_permanent_rejection_is_for_the_operator(options: dict[str, Any], pace: Callable[[], None], tmp_path: Path) -> None:
    pace()
    with storage_scp(**options) as pacs, pytest.raises(OperatorNeeded, match="know our AE title 'COREWATCH'"):
        send_files(ct_files(tmp_path), port=pacs.port, **ADDRESS)


def test_transient_rejection_is_retried(pace: Callable[[], None], tmp_path: Path) -> None:
    other = AE("OTHER")
    other.add_requested_context(Verification)
    with storage_scp(most=1) as pacs:
        held = other.associate("127.0.0.1", pacs.port)
        assert held.is_established
        pace()
        with pytest.raises(RetryLater, match="it is busy"):
            send_files(ct_files(tmp_path), port=pacs.port, **ADDRESS)
        held.release()


def test_abort_midway_is_retried(tmp_path: Path) -> None:
    with storage_scp(abort_at=2) as pacs, pytest.raises(RetryLater, match="broke off"):
        send_files(ct_files(tmp_path, 3), port=pacs.port, **ADDRESS)


def test_an_answer_that_never_comes_is_retried(tmp_path: Path) -> None:
    release = threading.Event()

    def wait(number: int) -> int:
        release.wait(20)
        return 0x0000

    with storage_scp(wait) as pacs:
        with pytest.raises(RetryLater, match=r"within 0\.5 s"):
            send_files(ct_files(tmp_path, 1), port=pacs.port, **(ADDRESS | {"timeout_s": 0.5}))
        release.set()


def test_what_is_not_dicom_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    with pytest.raises(OperatorNeeded, match=r"notes\.txt is not a DICOM file"):
        send_files([path], port=1, **ADDRESS)


def test_nothing_to_send_needs_no_peer() -> None:
    assert send_files([], port=1, **ADDRESS) == ()


def test_an_exception_in_progress_aborts(tmp_path: Path) -> None:
    def stop(outcome: StoreOutcome) -> None:
        raise KeyboardInterrupt

    with storage_scp() as pacs, pytest.raises(KeyboardInterrupt):
        send_files(ct_files(tmp_path), port=pacs.port, progress=stop, **ADDRESS)
    assert pacs.count == 1


def test_small_pdus_leave_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: list[int] = []
    set_no_delay = association._no_delay

    def record(event: evt.Event) -> None:
        set_no_delay(event)
        options.append(event.assoc.dul.socket.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(association, "_no_delay", record)
    with storage_scp() as pacs:
        echo(port=pacs.port, **ADDRESS)
    assert options
    assert all(options)


class _Preempted(threading.Event):
    """The reactor's checkpoint, behind which the reactor is held up until an answer of the peer is there."""

    def __init__(self, association: Any) -> None:
        super().__init__()
        self._association = association
        self.held = 0
        self.set()

    def wait(self, timeout: float | None = None) -> bool:
        passed = super().wait(timeout)
        if threading.current_thread() is self._association:
            self.held += 1
            deadline = time.monotonic() + 1.0
            while self._association.dimse.msg_queue.empty() and time.monotonic() < deadline:
                threading.Event().wait(0.001)
        return passed


def test_the_reactor_takes_no_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of events under which pynetdicom's reactor runs off with the answer to a C-STORE."""
    serve_nothing = association.serve_nothing
    checkpoints: list[_Preempted] = []

    def preempt(made: Any) -> None:
        serve_nothing(made)
        checkpoints.append(_Preempted(made))
        made._reactor_checkpoint = checkpoints[-1]

    monkeypatch.setattr(association, "serve_nothing", preempt)
    with storage_scp() as pacs:
        outcomes = send_files(ct_files(tmp_path, 5), port=pacs.port, **ADDRESS)
    assert [outcome.result for outcome in outcomes] == [StoreResult.ACCEPTED] * 5
    assert checkpoints[0].held > 0


def test_echo_needs_verification() -> None:
    with storage_scp(verification=False) as pacs, pytest.raises(OperatorNeeded, match="Verification"):
        echo(port=pacs.port, **ADDRESS)


@pytest.mark.parametrize(
    ("status", "result", "temporary"),
    [
        (0x0000, StoreResult.ACCEPTED, False),
        (0xB006, StoreResult.WARNING, False),
        (0xA701, StoreResult.FAILED, True),
        (0xA9FF, StoreResult.FAILED, False),
        (0xC000, StoreResult.FAILED, False),
        (0x0122, StoreResult.FAILED, False),
        (0x0124, StoreResult.FAILED, False),
        (0x1234, StoreResult.FAILED, False),
    ],
)
def test_status_table(status: int, result: StoreResult, temporary: bool) -> None:
    got, words, passing = classify_status(status)
    assert (got, passing) == (result, temporary)
    assert words
