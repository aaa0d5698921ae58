"""`aligned.nii.gz` and its sidecar show the same patient at the same place in every reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from scipy.spatial.transform import Rotation

from conversion.nifti import write_aligned, write_native_map
from conversion.sidecar import describe, write_aligned_sidecar
from corewatch import RESEARCH_LABEL, __version__
from corewatch.geometry import LPS_TO_RAS, NETWORK_SHAPE, NETWORK_TO_RAS, Matrix, apply
from corewatch.volumes import AlignedHead, AlignmentQuality, ScannerVolume

MARK = (30, 140, 100)
"""Network voxel: on the patient's right, in front, high up."""


@pytest.fixture(scope="module")
def lps_to_voxel() -> Matrix:
    """A head that lay turned and 700 mm from the scanner's origin."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", (11, -7, 16), degrees=True).as_matrix()
    pose[:3, 3] = (12.0, -31.0, 700.0)
    return np.asarray(np.linalg.inv(NETWORK_TO_RAS) @ pose @ LPS_TO_RAS, np.float64)


@pytest.fixture(scope="module")
def head(lps_to_voxel: Matrix) -> AlignedHead:
    hu = np.zeros(NETWORK_SHAPE, np.uint8)
    hu[MARK] = 77
    return AlignedHead(hu, lps_to_voxel, AlignmentQuality(0.9, 0.12, 0.3, {"symmetry": 0.97, "coverage": 1.0}))


def test_two_readers_see_the_mark_at_the_same_place(tmp_path: Path, head: AlignedHead) -> None:
    path = tmp_path / "aligned.nii.gz"
    write_aligned(path, head)
    nifti: Any = nibabel.load(path)
    itk = SimpleITK.ReadImage(str(path))
    assert itk.GetSize() == NETWORK_SHAPE
    assert itk.GetSpacing() == pytest.approx((1, 1, 1))
    assert itk.GetPixel(*MARK) == np.asarray(nifti.dataobj)[MARK] == 77
    ras = apply(nifti.affine, np.array(MARK))
    assert itk.TransformIndexToPhysicalPoint(MARK) == pytest.approx(apply(LPS_TO_RAS, ras), abs=1e-4)
    assert ras[0] > 0  # the patient's right
    assert ras[1] > 0  # in front of the anterior commissure
    assert SimpleITK.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(itk.GetDirection()) == "LAS"


@pytest.mark.parametrize("code", ["RAS", "LPS", "LAS", "SAR"])
def test_turning_it_to_another_orientation_loses_nothing(tmp_path: Path, head: AlignedHead, code: str) -> None:
    path = tmp_path / "aligned.nii.gz"
    write_aligned(path, head)
    turned = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), code)
    # DICOM-ordered array: z, y, x
    index = np.argwhere(SimpleITK.GetArrayViewFromImage(turned) == 77)[0][::-1]
    there = turned.TransformIndexToPhysicalPoint(index.tolist())
    assert there == pytest.approx(apply(LPS_TO_RAS @ NETWORK_TO_RAS, np.array(MARK)), abs=1e-4)


def test_sform_and_qform_agree_when_each_stands_alone(tmp_path: Path, head: AlignedHead) -> None:
    path = tmp_path / "aligned.nii.gz"
    write_aligned(path, head)
    for kept in ("sform", "qform"):
        image: Any = nibabel.load(path)
        if kept == "sform":
            image.set_qform(None, 0)
        else:
            image.set_sform(None, 0)
        image.to_filename(tmp_path / f"{kept}.nii.gz")
        read = SimpleITK.ReadImage(str(tmp_path / f"{kept}.nii.gz"))
        assert read.TransformIndexToPhysicalPoint(MARK) == pytest.approx(
            apply(LPS_TO_RAS @ NETWORK_TO_RAS, np.array(MARK)), abs=1e-4
        )


def test_a_map_on_an_oblique_scanner_grid_opens_alike(tmp_path: Path) -> None:
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", (25, -10, 8), degrees=True).as_matrix() @ np.diag([0.45, 0.45, 0.5])
    turn[:3, 3] = (-110.0, -95.0, -812.5)
    drawn = np.zeros((40, 44, 30), np.uint8)
    drawn[31, 7, 20] = 90
    write_native_map(tmp_path / "map.nii.gz", drawn, turn)
    itk = SimpleITK.ReadImage(str(tmp_path / "map.nii.gz"))
    assert itk.GetPixel(31, 7, 20) == 90
    assert itk.TransformIndexToPhysicalPoint((31, 7, 20)) == pytest.approx(apply(turn, np.array([31, 7, 20])), abs=1e-3)


def test_the_sidecar_leads_to_the_scanner_and_back(tmp_path: Path, head: AlignedHead, lps_to_voxel: Matrix) -> None:
    matrix = np.diag([0.5, 0.5, 0.6, 1.0])
    matrix[:3, 3] = (-100, -90, 650)
    source = ScannerVolume(np.zeros((8, 9, 10), np.int16), matrix, ("1.2.826.0.1.3680043.8.498.1",) * 10)
    write_aligned_sidecar(tmp_path / "aligned.json", head, source)
    said = json.loads((tmp_path / "aligned.json").read_text())
    np.testing.assert_allclose(said["Alignment"]["matrix_lps_mm_to_voxel"], lps_to_voxel)
    np.testing.assert_allclose(np.array(said["Alignment"]["matrix_voxel_to_lps_mm"]) @ lps_to_voxel, np.eye(4), atol=1e-9)
    np.testing.assert_array_equal(said["MatrixVoxelToTemplateRasMm"], NETWORK_TO_RAS)
    np.testing.assert_array_equal(said["Source"]["matrix_voxel_to_lps_mm"], matrix)
    assert (said["Source"]["Columns"], said["Source"]["Rows"], said["Source"]["Slices"]) == (8, 9, 10)
    assert said["GeneratedBy"] == [{"Name": "corewatch", "Version": __version__}]
    assert said["SpatialReference"] == "MNI152NLin2009aSym"
    assert said["Notice"] == RESEARCH_LABEL
    assert said["Alignment"]["figures"] == {"coverage": 1.0, "symmetry": 0.97}
    assert "1.2.826" not in (tmp_path / "aligned.json").read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["aligned.json"]


def test_a_head_that_came_aligned_names_no_scanner(head: AlignedHead) -> None:
    said = describe(AlignedHead(head.hu, None, None), None)
    assert said["Alignment"] is None
    assert said["Source"] is None
    assert json.loads(json.dumps(said)) == said
