"""`result.json` is read by other programs: every name of the contract is there in every state, with its unit and its type."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from corewatch import RESEARCH_LABEL
from corewatch.findings import Finding, ModelIdentity, Side
from corewatch.reasons import Reason
from corewatch.result import Result, Timings
from corewatch.states import CaseState
from corewatch.volumes import AlignmentQuality

FIELDS = {
    "case_id",
    "state",
    "reason",
    "series_uid",
    "model",
    "core_ml",
    "core_ml_interval",
    "side",
    "alert",
    "alignment",
    "timings_s",
    "files",
}
OF_MODEL = {"name", "version", "sha256"}
OF_ALIGNMENT = {"matrix_lps_mm_to_voxel", "score", "midline_mm", "midline_degrees"}
OF_TIMINGS = {"convert", "align", "detect", "render", "deliver", "last_image_to_alert"}

FINDING = Finding(
    core_ml=22.936975,
    core_ml_interval=(19.4786, 25.1168),
    side=Side.RIGHT,
    side_confidence=0.98765,
    alert=True,
    alert_ml=20.0,
    unstable=True,
    model=ModelIdentity("core", "2020", "f" * 64),
    perturbations=("as analysed", "1 mm L"),
)
FOUND = Result(
    "abc",
    CaseState.DELIVERED,
    "1.2.3",
    finding=FINDING,
    lps_to_voxel=np.diag([1.0, -1.0, 1.0, 1.0]),
    quality=AlignmentQuality(0.93456, -0.12345, 0.5),
    timings=Timings(convert=0.12345),
    files={"summary": "summary.png"},
)
REFUSED = Result("abc", CaseState.NOT_ANALYSED, "1.2.3", reason=Reason.MISSING_SLICES, detail="Between 3 and 9 mm.")
FAILED = Result("abc", CaseState.FAILED, None, detail="MemoryError")


def as_read(result: Result) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(result.dumps())
    return read


@pytest.mark.parametrize("result", [FOUND, REFUSED, FAILED], ids=lambda r: str(r.state))
def test_every_field_is_there_whatever_became_of_the_case(result: Result) -> None:
    said = as_read(result)

    assert said.keys() >= FIELDS
    assert said["timings_s"].keys() == OF_TIMINGS
    assert said["notice"] == RESEARCH_LABEL


def test_a_finding_is_told_with_its_model_its_spread_and_its_alignment() -> None:
    said = as_read(FOUND)

    assert said["model"] == {"name": "core", "version": "2020", "sha256": "f" * 64}
    assert said["model"].keys() == OF_MODEL
    assert (said["core_ml"], said["core_ml_interval"]) == (22.937, [19.479, 25.117])
    assert said["alert_ml"] == 20.0, "what the alert was measured against"
    assert said["perturbations"] == ["as analysed", "1 mm L"]
    assert (said["side"], said["side_confidence"], said["alert"], said["unstable"]) == ("right", 0.988, True, True)
    assert said["alignment"].keys() >= OF_ALIGNMENT
    np.testing.assert_array_equal(said["alignment"]["matrix_lps_mm_to_voxel"], np.diag([1.0, -1.0, 1.0, 1.0]))
    assert "penumbra" not in FOUND.dumps()


def test_without_a_finding_nothing_reads_as_one() -> None:
    for result in (REFUSED, FAILED):
        said = as_read(result)
        for name in (
            "model",
            "core_ml",
            "core_ml_interval",
            "perturbations",
            "side",
            "side_confidence",
            "alert",
            "alert_ml",
            "unstable",
        ):
            assert said[name] is None, name
    assert (as_read(REFUSED)["reason"], as_read(FAILED)["reason"]) == ("missing_slices", None)


def test_no_clear_side_is_an_answer() -> None:
    unclear = Finding(3.0, None, Side.NONE, 0.4, False, 20.0, False, FINDING.model)

    assert as_read(Result("abc", CaseState.DELIVERED, None, finding=unclear))["side"] == "none"
