"""What a reported case requires of its parts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from corewatch.cautions import Caution, CautionCode
from outputs.case import ReportedCase
from tests.support.results import make_case, with_cautions


def test_a_case_needs_zones_and_its_own_result(tmp_path: Path) -> None:
    case = make_case(tmp_path, dicom=False)
    naive = datetime(2026, 11, 20, tzinfo=UTC).replace(tzinfo=None)
    with pytest.raises(ValueError, match="zone"):
        ReportedCase(case.case_id, case.key, case.result, case.folder, naive, case.analysed_at)
    with pytest.raises(ValueError, match="another case"):
        ReportedCase("other", case.key, case.result, case.folder, case.received_at, case.analysed_at)


@pytest.mark.parametrize(
    ("alert", "cautions", "positive"),
    [
        (True, (), True),
        (False, (), False),
        (False, (Caution(CautionCode.DENSE_REGION, "14 mL"),), True),
        (False, (Caution(CautionCode.THICK_SLICES, "5 mm"),), False),
    ],
)
def test_an_alert_and_a_suspected_haemorrhage_are_positive(
    tmp_path: Path, alert: bool, cautions: tuple[Caution, ...], positive: bool
) -> None:
    assert with_cautions(make_case(tmp_path, dicom=False, alert=alert), *cautions).is_positive is positive
