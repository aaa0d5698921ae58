"""Series as scanners send them: every patient position, either order, slices of 5 mm, and headers that name a wrong position."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conversion.alignment import align, check_quality
from conversion.convert import convert_with_reference
from corewatch.errors import NotAnalysed
from corewatch.findings import Side
from corewatch.geometry import Matrix, apply
from corewatch.reasons import Reason
from corewatch.volumes import AlignedHead
from phantom.dicom_series import SeriesTruth, write_series
from phantom.head import HeadSpec, make_head
from tests.support.positions import ORIENTATIONS, rewritten

pytestmark = pytest.mark.slow

BRAIN_CENTRE = np.array([71.5, 90.0, 64.0])


def accepted(files: list[Path]) -> AlignedHead:
    """Convert and align a series, and hold the gate."""
    volume, _ = convert_with_reference(files)
    head = align(volume)
    assert head.quality is not None
    check_quality(head.quality)
    return head


def errors(head: AlignedHead, truth: Matrix) -> tuple[float, float, float]:
    """Midline's offset in mm and angle in degrees, and how far the middle of the brain is off in mm."""
    assert head.lps_to_voxel is not None
    error = head.lps_to_voxel @ np.linalg.inv(truth)
    moved = apply(error, BRAIN_CENTRE) - BRAIN_CENTRE
    return abs(float(moved[0])), float(np.degrees(np.arcsin(np.linalg.norm(error[1:3, 0])))), float(np.linalg.norm(moved))


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> SeriesTruth:
    """A synthetic head with a core of 60 mL on the right, neck, holder and table."""
    head = make_head(HeadSpec(5, 60.0, Side.RIGHT))
    return write_series(head, tmp_path_factory.mktemp("hfs"), slices=100, coverage_mm=220, matrix=192, degrees=14, seed=3)


@pytest.fixture(scope="module")
def supine(series: SeriesTruth) -> AlignedHead:
    return accepted(list(series.files))


@pytest.mark.parametrize("position", [name for name in ORIENTATIONS if name != "HFS"])
def test_every_patient_position_gives_the_same_head(
    series: SeriesTruth, supine: AlignedHead, tmp_path: Path, position: str
) -> None:
    head = accepted(rewritten(series.files, tmp_path, position))
    np.testing.assert_allclose(head.lps_to_voxel, supine.lps_to_voxel, atol=0.05)
    assert np.abs(head.hu.astype(float) - supine.hu).mean() < 0.6
    offset, tilt, _ = errors(head, series.lps_to_network)
    assert offset < 0.5
    assert tilt < 0.5


@pytest.mark.parametrize("position", [name for name in ORIENTATIONS if name != "HFS"])
def test_a_position_that_was_entered_wrong_is_refused(series: SeriesTruth, tmp_path: Path, position: str) -> None:
    """The images alone show it: the technologist left the position at head first, supine."""
    volume, _ = convert_with_reference(rewritten(series.files, tmp_path, position, lying=True))
    quality = align(volume).quality
    assert quality is not None
    with pytest.raises(NotAnalysed) as caught:
        check_quality(quality)
    assert caught.value.reason is Reason.ALIGNMENT_NOT_TRUSTED
    assert "patient position" in caught.value.detail


@pytest.mark.parametrize(
    "options",
    [
        ["--slices", "115", "--coverage", "230"],
        ["--slices", "115", "--coverage", "230", "--descending", "--implicit"],
        ["--slices", "46", "--coverage", "230"],
    ],
    ids=["ascending", "descending", "5 mm"],
)
def test_the_published_patient_comes_back_from_a_series(shared: Path, tmp_path: Path, options: list[str]) -> None:
    maker = [sys.executable, str(shared / "tools" / "make_series.py")]
    head = str(shared / "reference" / "deepsymnet" / "sub-0151_aligned.nii.gz")
    pose = ["--seed", "11", "--degrees", "15", "--millimetres", "20"]
    subprocess.run([*maker, head, str(tmp_path / "in"), *options, *pose], check=True, timeout=240)
    truth = json.loads((tmp_path / "in" / "truth.json").read_text())
    aligned = accepted(sorted((tmp_path / "in").glob("*.dcm")))
    offset, tilt, placed = errors(aligned, np.array(truth["scanner_lps_mm_to_aligned_voxel"]))
    assert offset < 0.6  # 0.3 mm of it are the patient's own: the plane of symmetry lies at index 71.2 of the published file
    assert tilt < 0.5
    assert placed < 3.0
