"""Cases, headers and volumes that the suites of `outputs` share."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from config.delivery import ResultSeries
from corewatch.casefolder import CaseFolder
from corewatch.cautions import Caution
from corewatch.findings import Finding, ModelIdentity, Side
from corewatch.geometry import LPS_TO_RAS, NETWORK_SHAPE, NETWORK_TO_RAS, inverse
from corewatch.identity import case_key
from corewatch.reasons import Reason
from corewatch.result import Result
from corewatch.source_images import SourceImages, SourceSlice
from corewatch.states import CaseState
from corewatch.volumes import AlignmentQuality
from outputs.case import ReportedCase
from outputs.dicom.object_kinds import ObjectKind
from outputs.dicom.secondary_capture import Page
from outputs.dicom.writing import write_objects

PATIENT_NAME = "Müller^Jörg"
PATIENT_ID = "PID-4711"
ZONE = timezone(timedelta(hours=1))
LPS_TO_VOXEL = inverse(LPS_TO_RAS @ NETWORK_TO_RAS)
"""The patient lies as the template does."""
MODEL = ModelIdentity("phantom-demo", "1.0", "0123456789abcdef" * 4)
NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)


def clock() -> datetime:
    return NOW


def finding(**changes: Any) -> Finding:
    base = Finding(
        core_ml=34.2,
        core_ml_interval=(28.1, 41.7),
        side=Side.LEFT,
        side_confidence=0.97,
        alert=True,
        alert_ml=20.0,
        unstable=False,
        model=MODEL,
    )
    return dataclasses.replace(base, **changes)


def write_header(path: Path, *, implicit: bool = False, **changes: Any) -> Path:
    """A CT header as the assembler keeps it: no pixel data, a name that needs Latin-1."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = PATIENT_NAME, PATIENT_ID, "19500101", "M"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = "1.2.826.0.1.1", "1.2.826.0.1.2", "1.2.826.0.1.3.1"
    ds.SOPClassUID = CTImageStorage
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.StudyID = "20261120", "101500", "ACC00042", "7"
    ds.ReferringPhysicianName = "Brandt^Ute"
    ds.StudyDescription, ds.SeriesDescription, ds.Modality = "CTA Schädel", "CTA HEAD", "CT"
    for keyword, value in changes.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def make_case(folder: Path, *, dicom: bool = True, recipients: tuple[str, ...] = (), **changes: Any) -> ReportedCase:
    """An analysed case with its folder; `changes` go into the finding."""
    case_folder = CaseFolder(folder)
    instances = tuple((str(CTImageStorage), f"1.2.826.0.1.3.{number}") for number in range(1, 41))
    result = Result(
        "k3v9x2mqpt",
        CaseState.DELIVERING,
        "1.2.826.0.1.2",
        finding=finding(**changes),
        lps_to_voxel=LPS_TO_VOXEL,
        quality=AlignmentQuality(0.93, -0.21, 0.14),
    )
    return ReportedCase(
        case_id=result.case_id,
        key=case_key("1.2.826.0.1.2", [uid for _, uid in instances]),
        result=result,
        folder=case_folder,
        received_at=datetime(2026, 11, 20, 10, 17, 3, tzinfo=ZONE),
        analysed_at=datetime(2026, 11, 20, 10, 18, 1, tzinfo=ZONE),
        source_header=write_header(case_folder.source_header) if dicom else None,
        source_instances=instances if dicom else (),
        source_images=source_images(instances) if dicom else None,
        extra_recipients=recipients,
    )


def with_cautions(case: ReportedCase, *cautions: Caution) -> ReportedCase:
    """The case with these cautions about its result."""
    return dataclasses.replace(case, result=dataclasses.replace(case.result, cautions=cautions))


def source_images(instances: Sequence[tuple[str, str]], step_mm: float = 3.5) -> SourceImages:
    """Axial slices of 128 x 112 pixels around the network's grid, not tilted."""
    places = ((-100.0, -130.0, -55.0 + step_mm * n) for n in range(len(instances)))
    slices = tuple(SourceSlice(*instance, 1, place) for instance, place in zip(instances, places, strict=True))
    return SourceImages("1.2.826.0.1.9", 112, 128, (2.25, 1.5), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), slices)


def enhanced(case: ReportedCase) -> ReportedCase:
    """The same case from one Enhanced CT instance, its frames stored from the vertex down."""
    images = case.source_images
    assert images is not None and case.source_header is not None
    uid = "1.2.826.0.1.4"
    write_header(case.source_header, SOPClassUID=EnhancedCTImageStorage, SOPInstanceUID=uid)
    count = len(images.slices)
    slices = tuple(
        SourceSlice(str(EnhancedCTImageStorage), uid, count - n, one.position_lps) for n, one in enumerate(images.slices)
    )
    images = dataclasses.replace(images, slices=slices)
    return dataclasses.replace(case, source_images=images, source_instances=((str(EnhancedCTImageStorage), uid),))


def write_pages(case: ReportedCase, pages: Iterable[Page], series: ResultSeries | None = None) -> list[Path]:
    """The Secondary Captures of these pages, in order of Instance Number."""
    return [case.folder.dicom / name for name in write_objects(case, pages, None, series).made[ObjectKind.SC]]


def not_analysed(case: ReportedCase) -> ReportedCase:
    result = Result(
        case.case_id,
        CaseState.NOT_ANALYSED,
        case.result.series_uid,
        reason=Reason.SLICES_TOO_THICK,
        detail="The step between slices is 7.0 mm; at most 5.0 mm is allowed.",
    )
    return dataclasses.replace(case, result=result)


def failed(case: ReportedCase) -> ReportedCase:
    return dataclasses.replace(
        case, result=dataclasses.replace(case.result, state=CaseState.FAILED, detail="The PACS refused the objects.")
    )


def volumes() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A head-like ellipsoid and a core map in the patient's left, anterior, upper part: asymmetric along all three axes."""
    i, j, k = np.indices(NETWORK_SHAPE, sparse=True)
    centre = (72.5, 90.5, 60.0)
    radius2 = ((i - centre[0]) / 66) ** 2 + ((j - centre[1]) / 84) ** 2 + ((k - centre[2]) / 66) ** 2
    hu = np.where(radius2 < 0.85, 38, np.where(radius2 < 1.0, 100, 0)).astype(np.uint8)
    distance2 = (i - 105) ** 2 + (j - 125) ** 2 + (k - 75) ** 2
    core_map = np.clip(100 - distance2 / 4.0, 0, 100).astype(np.uint8)
    return hu, core_map
