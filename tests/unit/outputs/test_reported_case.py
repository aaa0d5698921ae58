"""What a reported case requires of its parts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from outputs.case import ReportedCase
from tests.support.results import make_case


def test_a_case_needs_zones_and_its_own_result(tmp_path: Path) -> None:
    case = make_case(tmp_path, dicom=False)
    naive = datetime(2026, 11, 20, tzinfo=UTC).replace(tzinfo=None)
    with pytest.raises(ValueError, match="zone"):
        ReportedCase(case.case_id, case.key, case.result, case.folder, naive, case.analysed_at)
    with pytest.raises(ValueError, match="another case"):
        ReportedCase("other", case.key, case.result, case.folder, case.received_at, case.analysed_at)
