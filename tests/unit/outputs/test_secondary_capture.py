"""Secondary Capture objects: read back, the same twice, in the patient's study."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from config.delivery import ResultSeries
from corewatch import RESEARCH_LABEL
from corewatch.findings import ModelIdentity
from outputs.case import ReportedCase
from outputs.dicom.encoding import Study
from outputs.dicom.secondary_capture import Page, encode
from outputs.pages.overlay_slices import render_overlays
from outputs.pages.summary_page import render_summary
from outputs.rendering import render_case
from tests.support.results import PATIENT_ID, PATIENT_NAME, make_case, not_analysed, volumes, write_header, write_pages

RNG = np.random.default_rng(1)
PAGES = (
    Page(RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8), "summary", "Summary"),
    Page(RNG.integers(0, 256, (33, 31, 3)).astype(np.uint8), "overlay-60", "z +8 mm", ("L", "P"), 0.4),
)


@pytest.fixture
def case(tmp_path: Path) -> ReportedCase:
    return make_case(tmp_path / "case")


def objects(case: ReportedCase, pages: tuple[Page, ...] = PAGES, series: ResultSeries | None = None) -> list[Dataset]:
    return [dcmread(path) for path in write_pages(case, pages, series)]


def test_read_back(case: ReportedCase) -> None:
    for number, (ds, page) in enumerate(zip(objects(case), PAGES, strict=True), start=1):
        assert ds.SOPClassUID == SecondaryCaptureImageStorage
        assert ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
        assert ds.InstanceNumber == number
        assert (ds.pixel_array == page.pixels).all()
        assert ds.PhotometricInterpretation == "RGB"
        assert ds.BurnedInAnnotation == "NO"
        assert ds.ContentQualification == "RESEARCH"
        assert RESEARCH_LABEL in ds.ImageComments
        assert "34 mL" in ds.DerivationDescription
        assert "28 to 42 mL" in ds.DerivationDescription
        assert ds.SeriesNumber == 9700


def test_orientation_and_scale_of_the_slices_only(case: ReportedCase) -> None:
    page, overlay = objects(case)
    assert not page.PatientOrientation
    assert "PixelSpacing" not in page
    assert list(overlay.PatientOrientation) == ["L", "P"]
    assert list(overlay.PixelSpacing) == [0.4, 0.4]


def test_joins_the_patients_study_in_a_series_of_its_own(case: ReportedCase) -> None:
    first, second = objects(case)
    source = dcmread(case.folder.source_header)
    for ds in (first, second):
        assert str(ds.PatientName) == PATIENT_NAME
        assert ds.PatientID == PATIENT_ID
        assert ds.SpecificCharacterSet == "ISO_IR 100"
        for keyword in (
            "StudyInstanceUID",
            "StudyDate",
            "StudyTime",
            "StudyID",
            "AccessionNumber",
            "PatientBirthDate",
            "StudyDescription",
        ):
            assert ds[keyword].value == source[keyword].value
        assert ds.SeriesInstanceUID != source.SeriesInstanceUID
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert len(first.SOPInstanceUID) <= 64


def test_names_every_source_image(case: ReportedCase) -> None:
    for ds in objects(case):
        assert [(item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID) for item in ds.SourceImageSequence] == [
            (CTImageStorage, uid) for _, uid in case.source_instances
        ]
        assert ds.SourceImageSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        tags = [element.tag for element in ds]
        assert tags == sorted(tags)
    bare = dataclasses.replace(case, source_instances=())
    assert all("SourceImageSequence" not in ds for ds in objects(bare))


def test_encoding_twice_gives_the_same_bytes(case: ReportedCase) -> None:
    once = [instance.data for instance in encode(Study.of(case), PAGES)]
    assert once == [instance.data for instance in encode(Study.of(case), PAGES)]


def test_uids_depend_on_case_model_and_role(case: ReportedCase) -> None:
    def uids(of: ReportedCase) -> set[str]:
        return {instance.sop_instance_uid for instance in encode(Study.of(of), PAGES)}

    finding = case.result.finding
    assert finding is not None
    other_model = dataclasses.replace(finding, model=ModelIdentity("other", "1.0", finding.model.sha256))
    others = (
        dataclasses.replace(case, key="f" * 64),
        dataclasses.replace(case, result=dataclasses.replace(case.result, finding=other_model)),
    )
    for other in others:
        assert not uids(case) & uids(other)


def test_dates_are_the_cases_in_the_sources_zone(case: ReportedCase) -> None:
    local = objects(case)[0]
    assert (local.ContentDate, local.ContentTime, local.SeriesDate) == ("20261120", "101801", "20261120")
    assert case.source_header is not None
    write_header(case.source_header, TimezoneOffsetFromUTC="-0930")
    shifted = objects(case)[0]
    assert shifted.TimezoneOffsetFromUTC == "-0930"
    assert (shifted.ContentDate, shifted.ContentTime) == ("20261119", "234801")


def test_later_revision_is_told_apart(case: ReportedCase) -> None:
    later = dataclasses.replace(case, result=dataclasses.replace(case.result, revision=2))
    ds = objects(later)[0]
    assert ds.SeriesNumber == 9701
    assert ds.SeriesDescription.endswith("rev. 2")


def test_our_text_means_the_same_in_every_character_set(case: ReportedCase) -> None:
    series = ResultSeries(number=42, description="Ischämie ~ \\ " + "x" * 48)
    ds = objects(case, series=series)[0]
    assert ds.SeriesNumber == 42
    assert len(ds.SeriesDescription) == 64
    assert ds.SeriesDescription.startswith("corewatch ischemic core Isch?mie - / x")


def test_fewer_pages_leave_no_stale_ones(case: ReportedCase) -> None:
    objects(case)
    objects(case, PAGES[:1])
    assert [path.name for path in case.folder.dicom.glob("*.dcm")] == ["sc-001.dcm"]


def test_without_a_dicom_source_there_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no study"):
        Study.of(make_case(tmp_path, dicom=False))


def digests(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def test_report_writes_pages_and_objects_and_can_be_repeated(case: ReportedCase) -> None:
    hu, core_map = volumes()
    assert render_case(case, hu, core_map) == {"summary": "summary.png", "dicom": "dicom"}
    first = digests(case.folder.path)
    render_case(case, hu, core_map)
    assert digests(case.folder.path) == first
    paths = sorted(case.folder.dicom.glob("sc-*.dcm"))
    slices = list(render_overlays(case, hu, core_map))
    assert len(paths) == 1 + len(slices)
    assert (dcmread(paths[0]).pixel_array == np.asarray(render_summary(case, hu, core_map))).all()
    assert (dcmread(paths[5]).pixel_array == slices[4].pixels).all()


def test_report_of_a_nifti_case_has_no_objects(tmp_path: Path) -> None:
    case = make_case(tmp_path / "case", dicom=False)
    assert render_case(case, *volumes()) == {"summary": "summary.png"}
    assert not case.folder.dicom.exists()


def test_report_of_a_case_not_analysed_is_one_page(case: ReportedCase) -> None:
    render_case(not_analysed(case), None, None)
    (path,) = case.folder.dicom.glob("*.dcm")
    assert "not analysed" in dcmread(path).DerivationDescription
    with pytest.raises(ValueError, match="volumes"):
        render_case(case, None, None)
