"""Arrivals of tiny DICOM instances, stored as the listener stores them, under a clock that the test moves."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from corewatch.arrival import ArrivalOutcome, ArrivalSource
from foundation.durable import make_folders
from ledger.spool import ArrivalWriter, StoredFile

START = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)


@dataclass
class TestClock:
    """A clock that moves only by `tick`."""

    __test__ = False
    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def tick(self, seconds: float) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now


@cache
def image(series: str, number: int, *, content: int = 0, step_mm: float = 3.0, **elements: Any) -> tuple[str, bytes]:
    """SOP Instance UID and file bytes of slice `number` (from 1) of an axial CTA head; `content` changes the pixels only."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, f"1.2.{series}.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.1", f"1.2.{series}"
    ds.Modality, ds.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SeriesDescription, ds.BodyPartExamined = "CTA HEAD 0.5 H30f", "HEAD"
    ds.SeriesNumber, ds.InstanceNumber = 5, number
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [-100, -120, step_mm * number], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [50, 50], step_mm
    ds.Rows = ds.Columns = 4
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.PixelData = bytes([content]) * 32
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return ds.SOPInstanceUID, buffer.getvalue()


def head(series: str = "7", slices: int = 12, **changes: Any) -> list[tuple[str, bytes]]:
    """All images of a CTA head of `slices` x 3 mm."""
    return [image(series, n, **changes) for n in range(1, slices + 1)]


@dataclass
class Sender:
    """One association (or drop) that is stored into `received`; times of change follow the test's clock."""

    received: Path
    clock: TestClock
    source: ArrivalSource = ArrivalSource.C_STORE
    ae_title: str = "PACS"
    email: tuple[str, ...] = ()
    writer: ArrivalWriter = field(init=False)
    arrival_id: str = field(init=False)

    def __post_init__(self) -> None:
        make_folders(self.received)
        self.writer = ArrivalWriter.open(
            self.received, self.source, peer_ae_title=self.ae_title, peer_host="10.0.0.1", email=self.email, clock=self.clock
        )
        self.arrival_id = self.writer.folder.name
        self._stamp(self.writer.folder)

    def send(self, images: Iterable[tuple[str, bytes]]) -> list[StoredFile]:
        stored = []
        for uid, data in images:
            stored.append(self.writer.store_instance(uid, [data]))
            self._stamp(stored[-1].path)
        self._stamp(self.writer.folder)
        return stored

    def send_aligned(self, data: bytes) -> StoredFile:
        stored = self.writer.store_aligned([data])
        self._stamp(stored.path)
        return stored

    def release(self) -> None:
        self.writer.close(ArrivalOutcome.RELEASED)
        self._stamp(self.writer.folder)

    def abort(self) -> None:
        self.writer.close(ArrivalOutcome.ABORTED)
        self._stamp(self.writer.folder)

    def crash(self) -> None:
        """The program that stores it ends without closing the arrival."""
        self.writer.abandon()

    def _stamp(self, path: Path) -> None:
        seconds = self.clock().timestamp()
        os.utime(path, (seconds, seconds))


def send_all(received: Path, clock: TestClock, images: Sequence[tuple[str, bytes]], **kind: Any) -> Sender:
    """A whole association at once: opened, everything sent, released."""
    sender = Sender(received, clock, **kind)
    sender.send(images)
    sender.release()
    return sender
