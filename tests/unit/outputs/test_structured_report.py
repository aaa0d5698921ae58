"""The structured report says what the finding says, read back by another's eyes; the key object points at the summary page."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from highdicom.sr import Comprehensive3DSR, srread
from pydantic import ValidationError
from pydicom import dcmread
from pydicom.dataset import Dataset

from config.delivery import PacsSettings, ResultSeries
from corewatch import RESEARCH_LABEL
from corewatch.findings import Side
from corewatch.identity import RESULT_SERIES, derived_uid
from corewatch.volumes import AlignmentQuality
from outputs.case import ReportedCase
from outputs.dicom import structured_report
from outputs.dicom.encoding import Study
from outputs.dicom.object_kinds import ObjectKind
from outputs.dicom.object_manifest import ObjectManifest
from outputs.dicom.secondary_capture import Page
from outputs.dicom.source_outline import outline
from outputs.dicom.writing import write_objects
from tests.support.results import LPS_TO_VOXEL, MODEL, enhanced, finding, make_case, not_analysed, volumes, write_header
from worker.models.spread import PERTURBATIONS

_, CORE_MAP = volumes()


def written(case: ReportedCase, series: ResultSeries | None = None) -> dict[ObjectKind, Dataset]:
    """The first object of each kind."""
    page = Page(np.zeros((16, 16, 3), np.uint8), "summary")
    manifest = write_objects(case, [page], CORE_MAP, series)
    assert ObjectManifest.read(case.folder.dicom) == manifest
    return {kind: dcmread(case.folder.dicom / names[0]) for kind, names in manifest.made.items()}


def report_of(case: ReportedCase) -> Comprehensive3DSR:
    written(case)
    document = srread(case.folder.report)
    assert isinstance(document, Comprehensive3DSR)
    return document


def estimate(document: Comprehensive3DSR) -> Any:
    groups = document.content.get_image_measurement_groups()
    (group,) = [g for g in groups if g.get_measurements()]
    return group


def figures(document: Comprehensive3DSR) -> dict[tuple[str, str], tuple[float, str]]:
    """(name's code, derivation's code) -> (value, unit)."""
    return {
        (m.name.value, "" if m.derivation is None else m.derivation.value): (float(m.value), m.unit.value)
        for m in estimate(document).get_measurements()
    }


def answers(document: Comprehensive3DSR) -> dict[str, str]:
    return {e.name.value: e.value.value for e in estimate(document).get_qualitative_evaluations() if e.name.value != CATEGORY}


CATEGORY = "276214006"  # of the finding, which the library counts among the evaluations
VOLUME, P10, P90, LEFT, RIGHT, YES, NO = "118565006", "371890005", "371887004", "7771000", "24028007", "373066001", "373067005"


def test_the_figures(tmp_path: Path) -> None:
    found = figures(report_of(make_case(tmp_path)))
    assert found == {
        (VOLUME, ""): (34.2, "mL"),
        (VOLUME, P10): (28.1, "mL"),
        (VOLUME, P90): (41.7, "mL"),
        ("ALERT-THRESHOLD", ""): (20.0, "mL"),
        ("ALIGNMENT-SCORE", ""): (0.93, "1"),
        ("MIDLINE-OFFSET", ""): (-0.21, "mm"),
        ("MIDLINE-ANGLE", ""): (0.14, "deg"),
    }


def test_the_answers(tmp_path: Path) -> None:
    document = report_of(make_case(tmp_path, side=Side.RIGHT, unstable=True))
    assert answers(document) == {
        "272741003": RIGHT,
        "ALERT": YES,
        "UNSTABLE": YES,
        "INTENDED-USE": "RESEARCH-ONLY",
        "MODEL-TRAINING": "DEMONSTRATION",
    }
    (site,) = estimate(document).finding_sites
    assert (site.value.value, site.laterality.value) == ("12738006", RIGHT)
    assert RESEARCH_LABEL in str(document)


@pytest.mark.parametrize("alert", [False, True])
@pytest.mark.parametrize("unstable", [False, True])
def test_alert_and_unstable_are_two_answers(alert: bool, unstable: bool, tmp_path: Path) -> None:
    found = answers(report_of(make_case(tmp_path, alert=alert, unstable=unstable)))
    assert (found["ALERT"], found["UNSTABLE"]) == (YES if alert else NO, YES if unstable else NO)


@pytest.mark.parametrize("demonstration", [False, True])
def test_a_model_that_saw_patients_is_not_called_a_demonstration(demonstration: bool, tmp_path: Path) -> None:
    name = "phantom-demo" if demonstration else "stroke-net"
    found = answers(report_of(make_case(tmp_path, model=dataclasses.replace(MODEL, name=name))))
    assert ("MODEL-TRAINING" in found) is demonstration


@pytest.mark.parametrize(
    ("quality", "expected"),
    [
        (AlignmentQuality(0.123456, -1.23456, 2.34567), {"SCORE": 0.1235, "OFFSET": -1.235, "ANGLE": 2.346}),
        (None, {}),
    ],
)
def test_the_alignment_is_rounded_or_absent(quality: AlignmentQuality | None, expected: dict[str, float], tmp_path: Path) -> None:
    case = make_case(tmp_path)
    case = dataclasses.replace(case, result=dataclasses.replace(case.result, quality=quality))
    found = {
        name.rsplit("-", 1)[-1]: value for (name, _), (value, _) in figures(report_of(case)).items() if "MI" in name or "AL" in name
    }
    assert found == {"THRESHOLD": 20.0, **expected}


def measured(value: Dataset) -> str:
    return f"{value.NumericValue} {value.MeasurementUnitsCodeSequence[0].CodeValue}"


def items(item: Dataset, depth: int = 0) -> list[str]:
    """The content tree, a line for each item: depth, relationship, code of the concept, value."""
    values = {
        "CODE": lambda: item.ConceptCodeSequence[0].CodeValue,
        "NUM": lambda: " ".join(
            [
                str(item.MeasuredValueSequence[0].NumericValue),
                item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue,
            ]
        ),
        "TEXT": lambda: item.TextValue,
        "UIDREF": lambda: item.UID,
        "IMAGE": lambda: item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID,
    }
    name = item.ConceptNameCodeSequence[0].CodeValue if "ConceptNameCodeSequence" in item else ""
    line = f"{'.' * depth}{item.RelationshipType} {name} {values.get(item.ValueType, str)()}".strip()
    return [line, *(below for inner in item.get("ContentSequence", ()) for below in items(inner, depth + 1))]


FINDING = [
    ".HAS OBS CONTEXT 112039 ischemic core",
    ".HAS OBS CONTEXT 112040 {tracking}",
    ".CONTAINS 276214006 49755003",  # category: morphologically abnormal structure
    ".CONTAINS 121071 55641003",  # finding: infarct
]
SITE_AND_ALGORITHM = [
    ".HAS CONCEPT MOD 363698007 12738006",  # site: brain
    "..HAS CONCEPT MOD 272741003 7771000",  # left
    ".HAS CONCEPT MOD 111001 phantom-demo",
    ".HAS CONCEPT MOD 111003 1.0",
    ".HAS CONCEPT MOD 122405 corewatch",
    f".HAS CONCEPT MOD 111002 sha256={MODEL.sha256}",
]


def test_the_report_item_by_item(tmp_path: Path) -> None:
    """The two measurement groups (TID 1501 and 1411) and who observed (TID 1002), as a reader of another maker sees them."""
    case = make_case(tmp_path)
    made = written(case)
    assert case.source_images is not None
    outlined_slices = outline(case.source_images, CORE_MAP, LPS_TO_VOXEL)
    assert outlined_slices is not None
    largest = outlined_slices.largest
    report, segmentation = made[ObjectKind.SR], made[ObjectKind.SEG]
    segment = segmentation.SegmentSequence[0]
    context = [line for item in report.ContentSequence for line in items(item) if line.startswith("HAS")]
    device = f"HAS OBS CONTEXT 121012 {derived_uid('corewatch', MODEL, 'device')}"
    assert context == [
        "HAS CONCEPT MOD 121049 en-US",
        "HAS OBS CONTEXT 121005 121007",  # the observer is a device
        device,
        "HAS OBS CONTEXT 121013 corewatch",
        "HAS OBS CONTEXT 121014 corewatch",
        "HAS OBS CONTEXT 121015 phantom-demo",
        "HAS OBS CONTEXT 121016 0123456789abcdef",
        "HAS CONCEPT MOD 121058 303653007",  # procedure: computed tomography of head
        "HAS CONCEPT MOD 121058 77343006",  # angiography
    ]
    estimated, outlined = ([line.format(tracking=segment.TrackingUID) for line in FINDING] for _ in range(2))
    estimate_group, outline_group = report.ContentSequence[-2].ContentSequence
    assert items(estimate_group)[1:] == [
        *estimated,
        ".CONTAINS 370129005 NETWORK-ESTIMATE",
        *SITE_AND_ALGORITHM,
        ".CONTAINS 118565006 34.2 mL",
        ".CONTAINS 118565006 28.1 mL",
        "..HAS CONCEPT MOD 121401 371890005",
        ".CONTAINS 118565006 41.7 mL",
        "..HAS CONCEPT MOD 121401 371887004",
        ".CONTAINS ALERT-THRESHOLD 20.0 mL",
        ".CONTAINS ALIGNMENT-SCORE 0.93 1",
        ".CONTAINS MIDLINE-OFFSET -0.21 mm",
        ".CONTAINS MIDLINE-ANGLE 0.14 deg",
        ".CONTAINS 272741003 7771000",
        ".CONTAINS ALERT 373066001",
        ".CONTAINS UNSTABLE 373067005",
        ".CONTAINS INTENDED-USE RESEARCH-ONLY",
        ".CONTAINS MODEL-TRAINING DEMONSTRATION",
        f".CONTAINS 121112 {case.source_images.slices[largest].sop_instance_uid}",  # the slice with the largest outlined area
    ]
    assert items(outline_group)[1:] == [
        *outlined,
        *SITE_AND_ALGORITHM,
        ".CONTAINS INTENDED-USE RESEARCH-ONLY",
        f".CONTAINS 121191 {segmentation.SOPInstanceUID}",
        ".CONTAINS 121232 1.2.826.0.1.2",  # the source series of the segmentation
    ]


def test_the_report_is_complete_preliminary_and_found_by_its_numbers(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    report = written(case)[ObjectKind.SR]
    study = Study.of(case)
    assert (report.Modality, report.CompletionFlag, report.VerificationFlag) == ("SR", "COMPLETE", "UNVERIFIED")
    assert report.PreliminaryFlag == "PRELIMINARY", "no person has verified it"
    assert (report.InstanceNumber, report.SeriesNumber) == (1, 9760)
    assert (report.SOPInstanceUID, report.SeriesInstanceUID) == (study.derived_uid("sr"), study.derived_uid("sr-series"))
    assert report.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99COREWATCH"
    made = structured_report.encode(study, finding())
    assert (made.kind, made.instance_number, made.sop_instance_uid) == (ObjectKind.SR, 1, study.derived_uid("sr"))


def test_a_source_without_instances_leaves_no_evidence(tmp_path: Path) -> None:
    case = dataclasses.replace(make_case(tmp_path), source_instances=(), source_images=None)
    report = written(case)[ObjectKind.SR]
    assert list(report.CurrentRequestedProcedureEvidenceSequence) == []


def test_without_a_range_nothing_is_said_about_it(tmp_path: Path) -> None:
    document = report_of(make_case(tmp_path, core_ml_interval=None, alert=False, core_ml=12.3456))
    assert (VOLUME, P10) not in figures(document)
    assert figures(document)[VOLUME, ""] == (12.346, "mL")
    assert "UNSTABLE" not in answers(document)
    assert answers(document)["ALERT"] == NO


def test_the_algorithm_is_named_with_its_digest(tmp_path: Path) -> None:
    group = estimate(report_of(make_case(tmp_path)))
    texts = {item.ConceptNameCodeSequence[0].CodeValue: item.get("TextValue") for item in group[0].ContentSequence}
    assert (texts["111001"], texts["111003"], texts["111002"]) == (MODEL.name, MODEL.version, f"sha256={MODEL.sha256}")


def test_the_placements_behind_the_range_are_named(tmp_path: Path) -> None:
    placements = tuple(map(str, PERTURBATIONS[15]))
    group = estimate(report_of(make_case(tmp_path, perturbations=placements)))
    said = [item.TextValue for item in group[0].ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "111002"]
    assert said == [f"sha256={MODEL.sha256}", f"placements={'; '.join(placements)}"]
    assert "; -1 mm L, -1 degree about S; " in said[1]


@pytest.mark.parametrize("multi_frame", [False, True])
def test_references_to_source_and_segment(multi_frame: bool, tmp_path: Path) -> None:
    case = make_case(tmp_path)
    case = enhanced(case) if multi_frame else case
    made = written(case)
    document = srread(case.folder.report)
    (study,) = document.CurrentRequestedProcedureEvidenceSequence
    source, segments = study.ReferencedSeriesSequence
    assert study.StudyInstanceUID == "1.2.826.0.1.1"
    assert (
        tuple((r.ReferencedSOPClassUID, r.ReferencedSOPInstanceUID) for r in source.ReferencedSOPSequence) == case.source_instances
    )
    assert [r.ReferencedSOPInstanceUID for r in segments.ReferencedSOPSequence] == [made[ObjectKind.SEG].SOPInstanceUID]
    assert segments.SeriesInstanceUID == made[ObjectKind.SEG].SeriesInstanceUID
    (roi,) = document.content.get_volumetric_roi_measurement_groups()
    assert roi.referenced_segment[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == made[ObjectKind.SEG].SOPInstanceUID
    assert not roi.get_measurements()  # the segment's volume is not the estimate
    (image,) = estimate(document).source_images
    named = image.ReferencedSOPSequence[0]
    assert (named.ReferencedSOPClassUID, named.ReferencedSOPInstanceUID) in case.source_instances
    assert ("ReferencedFrameNumber" in named) is multi_frame


def image_library(document: Dataset) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """(code of the name -> value) of the one group, and (SOP class, SOP instance) of its entries; read without the library."""
    (library,) = [item for item in document.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "111028"]
    (group,) = library.ContentSequence
    assert (group.ValueType, group.ConceptNameCodeSequence[0].CodeValue) == ("CONTAINER", "126200")
    common, entries = {}, []
    for item in group.ContentSequence:
        if item.ValueType == "IMAGE":
            (one,) = item.ReferencedSOPSequence
            assert item.RelationshipType == "CONTAINS"
            assert "ConceptNameCodeSequence" not in item  # TID 1601
            entries.append((one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID))
            continue
        assert item.RelationshipType == "HAS ACQ CONTEXT"
        value = {
            "CODE": lambda one: one.ConceptCodeSequence[0].CodeValue,
            "NUM": lambda one: str(one.MeasuredValueSequence[0].NumericValue),
            "UIDREF": lambda one: one.UID,
            "DATE": lambda one: one.Date,
            "TIME": lambda one: one.Time,
        }[item.ValueType](item)
        common[item.ConceptNameCodeSequence[0].CodeValue] = value
    return common, entries


@pytest.mark.parametrize("multi_frame", [False, True])
def test_the_image_library_names_every_source_image(multi_frame: bool, tmp_path: Path) -> None:
    case = make_case(tmp_path)
    case = enhanced(case) if multi_frame else case
    document = written(case)[ObjectKind.SR]
    common, entries = image_library(document)
    assert tuple(entries) == case.source_instances
    assert common == {
        "121139": "CT", "123014": "69536005", "111060": "20261120", "111061": "101500", "112227": "1.2.826.0.1.9",
        "110910": "112.0", "110911": "128.0", "111026": "1.5", "111066": "2.25",
        "110904": "1.0", "110905": "0.0", "110906": "0.0", "110907": "0.0", "110908": "1.0", "110909": "0.0",
    }  # fmt: skip
    names = [item.ConceptNameCodeSequence[0].CodeValue for item in document.ContentSequence]
    assert names[-3:-1] == ["111028", "126010"], "TID 1500: before the measurements"


def test_an_image_library_of_what_little_is_known(tmp_path: Path) -> None:
    case = dataclasses.replace(make_case(tmp_path), source_images=None)
    assert case.source_header is not None
    write_header(case.source_header, StudyDate="soon", StudyTime=None)
    document = written(case)[ObjectKind.SR]
    common, entries = image_library(document)
    assert common == {"121139": "CT", "123014": "69536005"}
    assert tuple(entries) == case.source_instances
    assert document.StudyDate == "soon", "copied as it is all the same"
    bare = dataclasses.replace(case, source_instances=())
    codes = [item.ConceptNameCodeSequence[0].CodeValue for item in written(bare)[ObjectKind.SR].ContentSequence]
    assert "111028" not in codes


def test_without_a_core_there_is_a_report_and_no_segment(tmp_path: Path) -> None:
    document = report_of(make_case(tmp_path, side=Side.NONE, alert=False, core_ml=0.0, core_ml_interval=(0.0, 0.4)))
    assert figures(document)[VOLUME, ""] == (0.0, "mL")
    assert answers(document)["272741003"] == "SIDE-UNCLEAR"
    assert not document.content.get_volumetric_roi_measurement_groups()
    (study,) = document.CurrentRequestedProcedureEvidenceSequence
    assert len(study.ReferencedSeriesSequence) == 1


def test_a_later_revision_names_the_report_it_replaces(tmp_path: Path) -> None:
    first = make_case(tmp_path / "1")
    before = written(first)[ObjectKind.SR]
    later = dataclasses.replace(make_case(tmp_path / "2"), key="2" * 64, superseded_report=first.folder.report)
    later = dataclasses.replace(later, result=dataclasses.replace(later.result, revision=2))
    made = written(later)
    (study,) = made[ObjectKind.SR].PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    (document,) = series.ReferencedSOPSequence
    assert (series.SeriesInstanceUID, document.ReferencedSOPInstanceUID) == (before.SeriesInstanceUID, before.SOPInstanceUID)
    assert "PredecessorDocumentsSequence" not in before
    for ds in made.values():
        assert ds.SeriesDescription.endswith(", rev. 2")
    assert len({ds.SeriesNumber for ds in made.values()} | {before.SeriesNumber}) == len(made) + 1


def test_the_key_object_points_at_the_summary(tmp_path: Path) -> None:
    made = written(make_case(tmp_path))
    (study,) = made[ObjectKind.KOS].CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == made[ObjectKind.SC].SeriesInstanceUID
    assert [r.ReferencedSOPInstanceUID for r in series.ReferencedSOPSequence] == [made[ObjectKind.SC].SOPInstanceUID]
    assert made[ObjectKind.KOS].ConceptNameCodeSequence[0].CodeValue == "113000"


def test_a_case_not_analysed_has_its_page_alone(tmp_path: Path) -> None:
    case = not_analysed(make_case(tmp_path))
    manifest = write_objects(case, [Page(np.zeros((16, 16, 3), np.uint8), "summary")], None)
    assert manifest.made == {ObjectKind.SC: ("sc-001.dcm",)}
    assert manifest.left_out.keys() == {ObjectKind.SEG, ObjectKind.PMAP, ObjectKind.SR, ObjectKind.KOS}


def test_series_are_named_by_the_settings(tmp_path: Path) -> None:
    made = written(make_case(tmp_path), ResultSeries(number=500, description="KI {object}", manufacturer="Klinik"))
    assert {kind: ds.SeriesNumber for kind, ds in made.items()} == {"sc": 500, "seg": 520, "pmap": 540, "sr": 560, "kos": 580}
    assert made[ObjectKind.SEG].SeriesDescription == f"{RESULT_SERIES} KI segmentation"
    assert {ds.Manufacturer for ds in made.values()} == {"Klinik"}
    assert len({ds.SeriesInstanceUID for ds in made.values()}) == len(made)


def test_the_settings_name_every_kind_of_object() -> None:
    assert set(PacsSettings(name="a", ae_title="A", host="h", port=1, objects=list(ObjectKind)).objects) == set(ObjectKind)


@pytest.mark.parametrize("description", ["{patient}", "{object", "{0}", "{object.x}", "{}"])
def test_a_description_that_is_no_pattern_is_told(description: str) -> None:
    with pytest.raises(ValidationError, match="object"):
        ResultSeries(description=description)
