"""CT instances, peers and a running listener for tests of receiving."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import structlog
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE
from structlog.testing import capture_logs

from config.intake import ListenerSettings
from config.settings import Settings
from dicom_listener.server import StorageListener
from foundation.dicom_client.association import HandshakeEvents
from tests.support.net import wait_for

STUDY_UID, SERIES_UID = generate_uid(), generate_uid()


def ct_slice(
    number: int = 1, *, size: int = 8, sop_class: str = CTImageStorage, transfer_syntax: str = ExplicitVRLittleEndian
) -> Dataset:
    """A CT slice with its file meta, `size` x `size` pixels of noise."""
    dataset = Dataset()
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = f"{SERIES_UID[:56]}.{number}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY_UID, SERIES_UID
    dataset.Modality, dataset.PatientName, dataset.PatientID = "CT", "Secret^Name", "Secret-ID"
    dataset.InstanceNumber = number
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, number], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness = [0.5, 0.5], 1
    dataset.Rows = dataset.Columns = size
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 1
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    pixels = np.random.default_rng(number).integers(-1000, 1000, (size, size), dtype=np.int16)
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = transfer_syntax
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def file_bytes(dataset: Dataset) -> bytes:
    """A data set as a DICOM file."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def listener_settings(folder: Path, **listener: Any) -> Settings:
    """Settings with a free port and the data below `folder`."""
    defaults: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "reserve_gib": 0}
    return Settings(data_dir=folder / "data", listener=ListenerSettings(**{**defaults, **listener}))


@contextmanager
def running(settings: Settings, **keywords: Any) -> Iterator[StorageListener]:
    """A listener that accepts; on leaving, no thread of it may be left."""
    before = set(threading.enumerate())
    listener = StorageListener(settings, **keywords)
    listener.start()
    try:
        yield listener
    finally:
        listener.stop(timeout_s=2)
    others = set(threading.enumerate()) - before
    for thread in others:
        thread.join(5)  # the sender's, which may just be hearing of the end
    left = [t for t in others if t.is_alive()]
    assert not left, f"threads left: {left}"


def associate(port: int, sop_classes: list[str] | None = None, **keywords: Any) -> Any:
    """An association of a Storage SCU with the listener, established or not; `rejection` is the A-ASSOCIATE-RJ or None."""
    entity = AE(ae_title=keywords.pop("calling", "TESTER"))
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
    syntaxes = keywords.pop("transfer_syntaxes", [ExplicitVRLittleEndian])
    for sop_class in sop_classes or [CTImageStorage]:
        entity.add_requested_context(sop_class, syntaxes)
    events = HandshakeEvents()
    called = keywords.pop("called", "COREWATCH")
    association = entity.associate("127.0.0.1", port, ae_title=called, evt_handlers=events.handlers, **keywords)
    association.rejection = events.rejection
    association._reactor_checkpoint = Checkpoint()
    return association


class Checkpoint:
    """Where an association's own thread waits while a message is sent, closed only when that thread really waits.

    pynetdicom's can be passed once more after it was closed; the thread then takes a quick answer for itself, and the sender waits
    for it in vain.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._passable, self._waiting = True, False

    def set(self) -> None:
        with self._changed:
            self._passable, self._waiting = True, False
            self._changed.notify_all()

    def clear(self) -> None:
        with self._changed:
            self._passable = False
            self._changed.wait_for(lambda: self._waiting, timeout=5)

    def wait(self) -> None:
        with self._changed:
            while not self._passable:
                self._waiting = True
                self._changed.notify_all()
                self._changed.wait()


def send(association: Any, *numbers: int) -> list[int]:
    """Store these slices over an association; returns the status of each."""
    assert association.is_established
    return [int(association.send_c_store(ct_slice(n)).Status) for n in numbers]


@contextmanager
def captured_logs(*modules: ModuleType) -> Iterator[list[Any]]:
    """What these modules log meanwhile, whatever logging another test has set up (loggers are cached then)."""
    before = [module.log for module in modules]
    for module in modules:
        module.log = structlog.get_logger()
    try:
        with capture_logs() as logs:
            yield logs
    finally:
        for module, logger in zip(modules, before, strict=True):
            module.log = logger


def arrivals(settings: Settings) -> list[Path]:
    """Folders of the spool."""
    return sorted(settings.received_dir.iterdir())


def closing(folder: Path) -> dict[str, Any]:
    """The record of closing of an arrival, once it is there."""
    path = folder / "closed.json"
    wait_for("the arrival to end", path.exists, every=0.01)
    record: dict[str, Any] = json.loads(path.read_bytes())
    return record


def images(folder: Path) -> list[Path]:
    """The instances of an arrival."""
    return sorted(folder.glob("*.dcm"))
