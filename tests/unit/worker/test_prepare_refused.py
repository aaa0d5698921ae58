"""A head that the alignment's score refuses leaves the figures of its alignment; one that lacks part of its brain has a caution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corewatch.casefolder import CaseFolder
from corewatch.cautions import CautionCode
from corewatch.errors import NotAnalysed
from corewatch.geometry import LPS_TO_RAS, NETWORK_SHAPE, NETWORK_TO_RAS
from corewatch.reasons import Reason
from corewatch.states import CaseState
from corewatch.volumes import AlignedHead, AlignmentQuality
from tests.support_conversion import stack, write
from worker.stages import prepare as stage
from worker.stages.case_files import PreparedRecord, result_of
from worker.stages.prepare import DicomSource, prepare


def head(score: float, coverage: float) -> AlignedHead:
    quality = AlignmentQuality(score, 0.1, 0.2, {"coverage": coverage})
    return AlignedHead(np.zeros(NETWORK_SHAPE, np.uint8), np.linalg.inv(NETWORK_TO_RAS) @ LPS_TO_RAS, quality)


def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aligned: AlignedHead) -> tuple[CaseFolder, Any]:
    monkeypatch.setattr(stage, "align", lambda _volume: aligned)
    folder = CaseFolder(tmp_path / "case")
    folder.path.mkdir()
    paths = write(tmp_path / "in", stack([float(z) for z in range(100)]))
    return folder, lambda: prepare(DicomSource(tuple(paths)), folder, minimum_score=None)


def test_the_result_of_a_refused_head_holds_its_alignment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, run = prepared(tmp_path, monkeypatch, head(0.25, 0.775))
    with pytest.raises(NotAnalysed, match="Only 78 %"):
        run()
    left = PreparedRecord.read(folder)
    assert not folder.aligned.exists()
    result = result_of(
        left, None, case_id="c", state=CaseState.NOT_ANALYSED, series_uid="1.2", reason=Reason.TOO_LITTLE_COVERAGE, detail=""
    ).to_json()
    assert result["alignment"]["score"] == 0.25
    assert result["alignment"]["midline_mm"] == 0.1


@pytest.mark.parametrize(("coverage", "told"), [(0.9699, True), (0.97, False), (1.0, False)])
def test_a_head_without_its_vertex_has_a_caution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coverage: float, told: bool
) -> None:
    folder, run = prepared(tmp_path, monkeypatch, head(0.9, coverage))
    run()
    codes = [one.code for one in PreparedRecord.read(folder).cautions]
    assert codes == ([CautionCode.LITTLE_COVERAGE] if told else [])
