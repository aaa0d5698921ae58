"""Every kind of our DICOM objects before the eyes of others: David Clunie's validator, DCMTK, pydicom, highdicom and Orthanc."""

from __future__ import annotations

import dataclasses
import io
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from highdicom.seg import segread
from highdicom.sr import Comprehensive3DSR, srread
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from config.delivery import PacsSettings
from corewatch.findings import Side
from outputs.case import ReportedCase
from outputs.destinations.pacs import PacsDestination
from outputs.dicom.object_kinds import ObjectKind
from outputs.dicom.object_manifest import ObjectManifest
from outputs.rendering import render_case
from tests.support.orthanc import Orthanc
from tests.support.results import PATIENT_ID, enhanced, make_case, volumes, write_header

pytestmark = pytest.mark.servers

Tool = Callable[[str], str]

KINDS = tuple(ObjectKind)

CHARACTER_SETS: dict[str, dict[str, Any]] = {
    "latin-1": {},
    "utf-8": {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "王^小东", "StudyDescription": "头部血管"},
    "japanese": {
        "SpecificCharacterSet": ["", "ISO 2022 IR 87"],
        "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "StudyDescription": "CTA",
    },
    "half-width": {
        "SpecificCharacterSet": ["ISO 2022 IR 13", "ISO 2022 IR 87"],
        "PatientName": "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
        "StudyDescription": "CTA",
    },
    "gb18030": {"SpecificCharacterSet": "GB18030", "PatientName": "Wang^XiaoDong=王^小东", "StudyDescription": "CTA"},
    "cyrillic": {"SpecificCharacterSet": "ISO_IR 144", "PatientName": "Иванов^Иван", "StudyDescription": "КТА"},
    "bare": {"AccessionNumber": None, "PatientBirthDate": None, "StudyID": None, "ReferringPhysicianName": None},
    "lossy": {"LossyImageCompression": "01", "LossyImageCompressionRatio": "8", "LossyImageCompressionMethod": "ISO_15444_1"},
    "zone": {"TimezoneOffsetFromUTC": "+0530", "PatientAge": "076Y", "PatientWeight": "80", "AdmissionID": "A9"},
}


STUDY = ("PatientName", "PatientID", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyDescription", "AccessionNumber")


@pytest.fixture
def validate(tool: Tool) -> Callable[[Path], list[str]]:
    """Errors of dciodvfy, which checks an object against its IOD (PS3.3); warnings too, but for codes that it does not know."""
    validator = tool("dciodvfy")

    def find(path: Path) -> list[str]:
        done = subprocess.run([validator, str(path)], capture_output=True, text=True, errors="replace", timeout=60, check=False)
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line]
        assert lines, "it names the kind of object at least"
        known = ("needed to build DICOMDIR", "Unrecognized defined term")
        return [line for line in lines if line.startswith(("Error", "Warning")) and not any(words in line for words in known)]

    return find


def written(case: ReportedCase) -> dict[ObjectKind, Path]:
    """The first object of each kind."""
    render_case(case, *volumes())
    manifest = ObjectManifest.read(case.folder.dicom)
    assert manifest is not None
    return {kind: case.folder.dicom / names[0] for kind, names in manifest.made.items()}


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[ObjectKind, Path]:
    return written(make_case(tmp_path_factory.mktemp("case")))


def test_every_kind_is_made(objects: dict[ObjectKind, Path]) -> None:
    assert tuple(objects) == KINDS


@pytest.mark.parametrize("name", CHARACTER_SETS)
def test_the_validator_finds_nothing_and_the_patient_is_the_source_s(
    name: str, tmp_path: Path, validate: Callable[[Path], list[str]]
) -> None:
    case = make_case(tmp_path)
    assert case.source_header is not None
    write_header(case.source_header, **CHARACTER_SETS[name])
    source = dcmread(case.source_header)
    for kind, path in written(case).items():
        assert validate(path) == [], kind
        ours = dcmread(path)
        assert ours.get("SpecificCharacterSet") == source.get("SpecificCharacterSet")
        for keyword in (
            "PatientName",
            "PatientID",
            "StudyInstanceUID",
            "StudyDate",
            "StudyTime",
            "StudyDescription",
            "AccessionNumber",
        ):
            assert (ours.get(keyword) or "") == (source.get(keyword) or ""), (kind, keyword)
        for keyword in ("PatientName", "PatientAge", "LossyImageCompressionRatio"):
            if keyword in source and keyword in ours:
                raw = dcmread(path).get_item(keyword).value
                assert raw.rstrip() == dcmread(case.source_header).get_item(keyword).value.rstrip(), (kind, keyword)


VARIANTS: dict[str, dict[str, Any]] = {
    "no side": {"side": Side.NONE, "alert": False, "core_ml": 3.0, "core_ml_interval": (1.0, 5.0)},
    "alert without a side": {"side": Side.NONE},
    "without a range": {"core_ml_interval": None},
    "unstable": {"unstable": True, "core_ml": 20.4, "core_ml_interval": (15.0, 26.0)},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_validator_finds_nothing_whatever_the_finding(
    variant: str, tmp_path: Path, validate: Callable[[Path], list[str]]
) -> None:
    made = written(make_case(tmp_path, **VARIANTS[variant]))
    assert (ObjectKind.SEG in made) is (variant != "no side")
    for kind, path in made.items():
        assert validate(path) == [], kind


def test_the_validator_finds_nothing_with_an_enhanced_source_and_an_earlier_revision(
    tmp_path: Path, validate: Callable[[Path], list[str]]
) -> None:
    first = enhanced(make_case(tmp_path / "1"))
    report = written(first)[ObjectKind.SR]
    later = enhanced(make_case(tmp_path / "2"))
    later = dataclasses.replace(later, superseded_report=report, result=dataclasses.replace(later.result, revision=2), key="2" * 64)
    for kind, path in written(later).items():
        assert validate(path) == [], kind


def test_the_validator_would_find_something(
    objects: dict[ObjectKind, Path], tmp_path: Path, validate: Callable[[Path], list[str]]
) -> None:
    spoilt: dict[ObjectKind, Callable[[Dataset], None]] = {
        ObjectKind.SEG: lambda ds: delattr(ds, "SegmentSequence"),
        ObjectKind.PMAP: lambda ds: delattr(ds.SharedFunctionalGroupsSequence[0], "RealWorldValueMappingSequence"),
        ObjectKind.SR: lambda ds: delattr(ds, "CompletionFlag"),
        ObjectKind.KOS: lambda ds: delattr(ds, "CurrentRequestedProcedureEvidenceSequence"),
    }
    for kind, spoil in spoilt.items():
        ds = dcmread(objects[kind])
        spoil(ds)
        ds.save_as(tmp_path / "spoilt.dcm")
        assert any(line.startswith("Error") for line in validate(tmp_path / "spoilt.dcm")), kind


def test_dcmtk_opens_them(objects: dict[ObjectKind, Path], tool: Tool) -> None:
    for path in objects.values():
        xml = subprocess.run([tool("dcm2xml"), "+Ca", "latin-1", str(path)], capture_output=True, timeout=60, check=True).stdout
        assert b"corewatch ischemic core" in xml
    for kind, words in (
        (ObjectKind.SR, b'NUM:(,,"Volume")="34.2" (mL,UCUM,"milliliter")'),
        (ObjectKind.KOS, b'CONTAINER:(,,"Of Interest")'),
    ):
        dumped = subprocess.run([tool("dsrdump"), str(objects[kind])], capture_output=True, timeout=60, check=True)
        assert words in dumped.stdout
        assert b"E:" not in dumped.stderr, dumped.stderr


def test_highdicom_reads_segmentation_and_report_back(objects: dict[ObjectKind, Path]) -> None:
    seg = segread(objects[ObjectKind.SEG])
    assert seg.number_of_segments == 1
    assert seg.get_volume().array.any()
    document = srread(objects[ObjectKind.SR])
    assert isinstance(document, Comprehensive3DSR)
    (roi,) = document.content.get_volumetric_roi_measurement_groups()
    assert roi.tracking_uid == seg.get_segment_description(1).tracking_uid
    assert roi.referenced_segment is not None
    assert roi.referenced_segment[0].referenced_segment_numbers == [1]


@pytest.fixture(scope="module")
def orthanc(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    server = Orthanc(tool("Orthanc"), tmp_path_factory.mktemp("orthanc"))
    try:
        yield server
    finally:
        server.stop()


def test_orthanc_stores_them_once_and_shows_what_has_pixels(tmp_path: Path, orthanc: Orthanc) -> None:
    case = make_case(tmp_path)
    objects = written(case)
    to = PacsSettings(
        name="archive", ae_title=orthanc.ae_title, host="127.0.0.1", port=orthanc.dicom, objects=[str(kind) for kind in KINDS]
    )
    count = len(list(case.folder.dicom.glob("*.dcm")))
    for _ in range(2):
        assert PacsDestination(to, "COREWATCH").deliver(case).detail.startswith(f"{count} objects")
        assert len(orthanc.find("Instance", PatientID=PATIENT_ID)) == count
    assert {series["MainDicomTags"]["Modality"] for series in orthanc.find("Series", PatientID=PATIENT_ID)} == {
        "CT",
        "SEG",
        "OT",
        "SR",
        "KO",
    }
    assert len(orthanc.find("Series", PatientID=PATIENT_ID)) == len(KINDS)
    for kind in (ObjectKind.SC, ObjectKind.PMAP):
        (instance,) = orthanc.find("Instance", SOPInstanceUID=dcmread(objects[kind]).SOPInstanceUID)
        shown = np.asarray(Image.open(io.BytesIO(orthanc.picture(instance["ID"]))))
        assert shown.shape[:2] == dcmread(objects[kind]).pixel_array.shape[-2 - (kind is ObjectKind.SC) :][:2]
        assert shown.any() or kind is ObjectKind.PMAP
