"""Cautions and remarks in the structured report."""

from __future__ import annotations

from pathlib import Path

from pydicom import dcmread

from corewatch.cautions import Caution, CautionCode
from outputs.dicom import codes, structured_report
from outputs.dicom.segmentation import SEGMENT_SHOWS
from tests.support.results import make_case, with_cautions
from tests.unit.outputs.test_structured_report import answers, figures, report_of


def test_cautions_are_codes_and_words(tmp_path: Path) -> None:
    """A reader that knows no code reads the sentence; the measurement group has the codes first."""
    caution = Caution(CautionCode.DENSE_REGION, "14 mL, patient's LEFT")
    document = report_of(with_cautions(make_case(tmp_path), caution))
    report = dcmread(tmp_path / "dicom" / "sr-001.dcm")
    assert next(iter(answers(document))) == "CAUTION"
    said = {(item.ConceptNameCodeSequence[0].CodeValue, item.TextValue) for item in report.ContentSequence[-1].ContentSequence}
    assert ("CAUTION", f"{caution.title}. {caution.sentence} {caution.remedy}") in said
    assert ("REMARK", SEGMENT_SHOWS) in said
    assert ("REMARK", structured_report.PERCENTILES_SHOW) in said


def test_every_caution_has_a_code_that_fits() -> None:
    """Code Value is a Short String, Code Meaning a Long String (PS3.5 6.2)."""
    for code in CautionCode:
        concept = codes.CAUTIONS[code]
        assert (len(concept.value) <= 16, len(concept.meaning) <= 64) == (True, True), code


def test_the_models_own_error_is_a_figure(tmp_path: Path) -> None:
    assert figures(report_of(make_case(tmp_path, model_rmse_ml=10.5)))["MODEL-RMSE", ""] == (10.5, "mL")
