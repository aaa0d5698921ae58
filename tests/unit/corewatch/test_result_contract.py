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


def test_the_whole_of_a_result() -> None:
    """Every value where it belongs, in its unit, rounded as the readers know it."""
    matrix = np.diag([2.0, -1.0, 1.0, 1.0])
    found = Result(
        "abc",
        CaseState.DELIVERED,
        "1.2.3",
        revision=2,
        notes=("a note",),
        finding=FINDING,
        lps_to_voxel=matrix,
        quality=AlignmentQuality(0.934567, 0.123456, 0.56789),
        timings=Timings(0.12345, 1.0, 2.0, 3.0, 4.0, 5.55555),
        files={"summary": "summary.png"},
    )
    said = as_read(found)
    assert (said["case_id"], said["state"], said["series_uid"], said["revision"]) == ("abc", "delivered", "1.2.3", 2)
    assert (said["reason"], said["reason_text"], said["remedy"], said["notes"]) == (None, None, None, ["a note"])
    assert said["alignment"] == {
        "matrix_lps_mm_to_voxel": matrix.tolist(),
        "matrix_voxel_to_lps_mm": np.diag([0.5, -1.0, 1.0, 1.0]).tolist(),
        "score": 0.9346,
        "midline_mm": 0.123,
        "midline_degrees": 0.568,
    }
    assert said["timings_s"] == {
        "convert": 0.123,
        "align": 1.0,
        "detect": 2.0,
        "render": 3.0,
        "deliver": 4.0,
        "last_image_to_alert": 5.556,
    }
    assert said["files"] == {"summary": "summary.png"}
    assert found.dumps().startswith('{\n  "case_id"')


def test_a_head_that_came_aligned_has_no_quality_and_a_case_without_a_head_no_alignment() -> None:
    aligned = as_read(Result("abc", CaseState.DELIVERED, None, lps_to_voxel=np.eye(4)))["alignment"]
    assert [aligned[name] for name in ("score", "midline_mm", "midline_degrees")] == [None] * 3
    for result in (REFUSED, FAILED, Result("abc", CaseState.FAILED, None, quality=AlignmentQuality(0.1, 0.2, 0.3))):
        assert as_read(result)["alignment"] is None
    assert Result("abc", CaseState.FAILED, None).revision == 1


def test_a_reason_comes_with_its_sentence_its_detail_and_its_remedy() -> None:
    said = as_read(REFUSED)
    assert said["reason_text"] == "Slices are missing from the series. Between 3 and 9 mm."
    assert said["remedy"] == Reason.MISSING_SLICES.remedy


def test_without_a_spread_there_is_no_interval() -> None:
    plain = Finding(3.0004, None, Side.NONE, 0.4, False, 20.0, False, FINDING.model)
    said = as_read(Result("abc", CaseState.DELIVERED, None, finding=plain))
    assert (said["core_ml"], said["core_ml_interval"], said["perturbations"], said["alert"]) == (3.0, None, [], False)
