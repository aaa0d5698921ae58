"""Our DICOM objects before the eyes of others: David Clunie's validator, DCMTK's and Orthanc's storage."""

from __future__ import annotations

import dataclasses
import io
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from config.delivery import PacsSettings
from foundation.dicom_client.storage import StoreResult, echo, send_files
from outputs.case import ReportedCase
from outputs.destinations.pacs import PacsDestination
from outputs.dicom.secondary_capture import Page
from outputs.rendering import render_case
from tests.support.net import answers, free_port, wait_for
from tests.support.orthanc import Orthanc
from tests.support.results import PATIENT_ID, PATIENT_NAME, make_case, not_analysed, volumes, write_header, write_pages

pytestmark = pytest.mark.servers


Tool = Callable[[str], str]
Complaints = Callable[[Path], list[str]]


@pytest.fixture
def complaints(tool: Tool) -> Callable[[Path], list[str]]:
    """Errors and warnings of dciodvfy, which checks an object against its IOD (PS3.3).

    Left out is that a source without Study ID and the like makes no DICOMDIR: we do not invent what a modality did not give.
    """
    validator = tool("dciodvfy")

    def find(path: Path) -> list[str]:
        done = subprocess.run([validator, str(path)], capture_output=True, text=True, timeout=60, check=False)
        lines = (done.stdout + done.stderr).splitlines()
        assert "SCImage" in lines
        return [line for line in lines if line.startswith(("Error", "Warning")) and "needed to build DICOMDIR" not in line]

    return find


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> ReportedCase:
    case = make_case(tmp_path_factory.mktemp("case"))
    render_case(case, *volumes())
    return case


def test_the_validator_finds_nothing(reported: ReportedCase, complaints: Complaints) -> None:
    paths = sorted(reported.folder.dicom.glob("sc-*.dcm"))
    assert len(paths) > 20
    for path in (paths[0], paths[1], paths[-1]):
        assert complaints(path) == []


def test_the_validator_would_find_something(reported: ReportedCase, complaints: Complaints, tmp_path: Path) -> None:
    ds = dcmread(next(reported.folder.dicom.glob("sc-*.dcm")))
    del ds.ConversionType
    ds.save_as(tmp_path / "spoilt.dcm")
    assert any("ConversionType" in line for line in complaints(tmp_path / "spoilt.dcm"))


@pytest.mark.parametrize(
    "changes",
    [
        {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "王^小东", "StudyDescription": "头"},
        {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou=山田^太郎", "StudyDescription": "CTA"},
        {"AccessionNumber": None, "PatientBirthDate": None, "StudyID": None, "ReferringPhysicianName": None},
        {"LossyImageCompression": "01", "LossyImageCompressionRatio": "8", "LossyImageCompressionMethod": "ISO_15444_1"},
        {"TimezoneOffsetFromUTC": "+0530", "PatientAge": "076Y", "PatientWeight": "80", "AdmissionID": "A9"},
    ],
)
def test_the_validator_finds_nothing_whatever_the_source(changes: dict[str, Any], complaints: Complaints, tmp_path: Path) -> None:
    case = make_case(tmp_path)
    assert case.source_header is not None
    write_header(case.source_header, **changes)
    render_case(case, *volumes())
    for path in sorted(case.folder.dicom.glob("sc-*.dcm"))[:2]:
        assert complaints(path) == []


def test_the_validator_finds_nothing_in_the_page_of_a_case_not_analysed(complaints: Complaints, tmp_path: Path) -> None:
    case = not_analysed(make_case(tmp_path))
    render_case(case, None, None)
    assert complaints(next(case.folder.dicom.glob("sc-*.dcm"))) == []


REAL_HEADERS = (
    "data/encodings/head_slice/*",
    "data/encodings/chest_slice/*",
    "data/odd/enhanced_ct_perfusion_multiframe.dcm",
    "data/odd/legacy_converted_enhanced_ct.dcm",
    "data/odd/head_localizer.dcm",
)


@pytest.mark.parametrize("pattern", REAL_HEADERS)
def test_real_headers_give_valid_objects_of_the_same_patient(
    pattern: str, shared: Path, complaints: Complaints, tmp_path: Path
) -> None:
    sources = sorted(path for path in shared.glob(pattern) if path.is_file())
    assert sources
    for number, path in enumerate(sources):
        source = dcmread(path, stop_before_pixels=True, force=True)
        case = make_case(tmp_path / str(number))
        header = case.folder.source_header
        source.save_as(header)
        case = dataclasses.replace(case, source_instances=((str(source.SOPClassUID), str(source.SOPInstanceUID)),))
        (made,) = write_pages(case, [Page(np.zeros((64, 64, 3), np.uint8), "summary")])
        # a dubious value of the source, such as a name in one part, is the source's to keep
        assert [line for line in complaints(made) if line.startswith("Error")] == [], path.name
        ours = dcmread(made)
        for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "StudyDate", "AccessionNumber"):
            assert (ours.get(keyword) or "") == (source.get(keyword) or ""), (path.name, keyword)


@pytest.fixture
def storescp(tool: Tool, tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """DCMTK's storage SCP, which writes what it gets bit by bit."""
    port, folder = free_port(), tmp_path / "stored"
    folder.mkdir()
    command = [tool("storescp"), "--bit-preserving", "--output-directory", str(folder), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for("storescp", lambda: answers(port), 20)
        yield port, folder
    finally:
        process.terminate()
        process.wait(10)


def test_dcmtk_stores_our_objects(reported: ReportedCase, storescp: tuple[int, Path]) -> None:
    port, folder = storescp
    paths = sorted(reported.folder.dicom.glob("sc-*.dcm"))
    outcomes = send_files(paths, host="127.0.0.1", port=port, called_ae="ANY", calling_ae="COREWATCH", timeout_s=20)
    assert {outcome.result for outcome in outcomes} == {StoreResult.ACCEPTED}
    stored = {dcmread(path, stop_before_pixels=True).SOPInstanceUID: path for path in folder.iterdir()}
    assert set(stored) == {outcome.sop_instance_uid for outcome in outcomes}
    for outcome in outcomes[:2]:
        assert same_data(dcmread(stored[outcome.sop_instance_uid]), dcmread(outcome.path))


def same_data(one: Dataset, other: Dataset) -> bool:
    return [(e.tag, e.VR, e.value) for e in one] == [(e.tag, e.VR, e.value) for e in other]


@pytest.fixture(scope="module")
def orthanc(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    server = Orthanc(tool("Orthanc"), tmp_path_factory.mktemp("orthanc"))
    try:
        yield server
    finally:
        server.stop()


def test_orthanc_keeps_one_of_each_and_shows_the_name(reported: ReportedCase, orthanc: Orthanc) -> None:
    settings = PacsSettings(name="archive", ae_title=orthanc.ae_title, host="127.0.0.1", port=orthanc.dicom, objects=("sc",))
    to = PacsDestination(settings, "COREWATCH")
    to.check()
    to.deliver(reported)
    once = sorted(instance["ID"] for instance in orthanc.find("Instance", PatientID=PATIENT_ID))
    to.deliver(reported)
    assert sorted(instance["ID"] for instance in orthanc.find("Instance", PatientID=PATIENT_ID)) == once
    assert len(once) == len(list(reported.folder.dicom.glob("sc-*.dcm")))
    (study,) = orthanc.find("Study", PatientID=PATIENT_ID)
    assert study["PatientMainDicomTags"]["PatientName"] == PATIENT_NAME
    assert study["MainDicomTags"]["StudyInstanceUID"] == "1.2.826.0.1.1"
    (series,) = orthanc.find("Series", PatientID=PATIENT_ID)
    assert series["MainDicomTags"]["SeriesNumber"] == "9700"


def test_orthanc_s_own_picture_is_ours(reported: ReportedCase, orthanc: Orthanc) -> None:
    """Another program's decoder shows the pixels that we drew: colours, rows and columns in their places."""
    paths = sorted(reported.folder.dicom.glob("sc-*.dcm"))
    send_files(paths[:2], host="127.0.0.1", port=orthanc.dicom, called_ae=orthanc.ae_title, calling_ae="COREWATCH")
    for path in paths[:2]:
        ds = dcmread(path)
        (instance,) = orthanc.find("Instance", SOPInstanceUID=ds.SOPInstanceUID)
        shown = np.asarray(Image.open(io.BytesIO(orthanc.picture(instance["ID"]))).convert("RGB"))
        assert (shown == ds.pixel_array).all()


def test_orthanc_answers_our_echo(orthanc: Orthanc) -> None:
    echo(host="127.0.0.1", port=orthanc.dicom, called_ae=orthanc.ae_title, calling_ae="COREWATCH")
