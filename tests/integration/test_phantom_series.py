from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from scipy.ndimage import affine_transform, binary_erosion

from corewatch.findings import Side
from corewatch.geometry import NETWORK_SHAPE, NETWORK_TO_RAS, apply, is_rigid
from phantom.head import Blueprint, HeadSpec, PhantomHead, make_head
from phantom.series import Patient, SeriesTruth, write_series

pytestmark = pytest.mark.slow

SPEC = HeadSpec(7, 60.0, Side.RIGHT)


@pytest.fixture(scope="module")
def head() -> PhantomHead:
    return make_head(SPEC)


@pytest.fixture(scope="module")
def series(head: PhantomHead, tmp_path_factory: pytest.TempPathFactory) -> SeriesTruth:
    return write_series(head, tmp_path_factory.mktemp("series"), slices=200, matrix=256, seed=3)


def stack(truth: SeriesTruth) -> np.ndarray:
    """HU, shape (columns, rows, slices), slices from feet to head."""
    datasets = sorted((pydicom.dcmread(f) for f in truth.files), key=lambda d: float(d.ImagePositionPatient[2]))
    return np.stack([d.pixel_array.T.astype(np.float32) * d.RescaleSlope + d.RescaleIntercept for d in datasets], axis=2)


def test_head_is_complete_and_keeps_its_truth(head: PhantomHead) -> None:
    assert head.hu.dtype == np.int16
    assert head.core_ml == 60.0
    ras = apply(head.voxel_to_ras, np.argwhere(head.core_mask))
    assert (ras[:, 0] > 0).all()  # the patient's right
    assert (head.hu[0] == -1000).mean() > 0.5
    assert (head.hu[:, :, -1] == -1000).all()
    neck = head.hu[:, :, 60]
    assert (neck > 400).any()  # vertebra
    assert (neck[96 - 25 : 96 + 26, 120:170] < -900).any()  # airway


def test_head_depends_on_its_spec_alone(head: PhantomHead) -> None:
    assert np.array_equal(make_head(SPEC).hu, head.hu)


def test_geometry_is_regular_and_matches_the_truth(series: SeriesTruth) -> None:
    positions = np.array([pydicom.dcmread(f, stop_before_pixels=True).ImagePositionPatient for f in series.files], float)
    expected = apply(series.voxel_to_lps, np.stack([np.zeros(200), np.zeros(200), np.arange(200)], axis=1))
    assert np.abs(positions - expected).max() < 1e-3
    assert np.diff(positions[:, 2]) == pytest.approx(1.0, abs=1e-3)
    first = pydicom.dcmread(series.files[0])
    assert [float(v) for v in first.ImageOrientationPatient] == [1, 0, 0, 0, 1, 0]
    assert float(first.PixelSpacing[0]) == pytest.approx(0.96)
    assert is_rigid(NETWORK_TO_RAS @ series.lps_to_network)  # the network's axes L-A-S are left-handed


def test_truth_takes_the_series_back_to_the_aligned_head(series: SeriesTruth) -> None:
    painted, core = Blueprint.of(SPEC).on_grid(NETWORK_SHAPE, NETWORK_TO_RAS)
    matrix = np.linalg.inv(series.voxel_to_lps) @ np.linalg.inv(series.lps_to_network)
    back = affine_transform(stack(series), matrix[:3, :3], matrix[:3, 3], output_shape=NETWORK_SHAPE, order=1, cval=-1000)
    both = [np.clip(v, 0, 100) for v in (back, painted)]
    here = np.corrcoef(both[0].ravel(), both[1].ravel())[0, 1]
    assert here > 0.9
    # one millimetre to any side fits worse
    for axis in range(3):
        for shift in (-1, 1):
            assert np.corrcoef(np.roll(both[0], shift, axis).ravel(), both[1].ravel())[0, 1] < here - 0.005
    inner = binary_erosion((painted > 20) & (painted < 55), iterations=3)
    assert (back - painted)[inner].mean() == pytest.approx(0, abs=0.3)
    assert 2.5 < (back - painted)[inner].std() < 7.0
    assert back[core & inner].mean() < back[core[::-1] & inner].mean() - 3


def test_same_arguments_give_the_same_bytes(head: PhantomHead, tmp_path: Path) -> None:
    small = {"slices": 6, "matrix": 64, "coverage_mm": 120.0}
    one = write_series(head, tmp_path / "one", **small)  # type: ignore[arg-type]
    two = write_series(head, tmp_path / "two", **small)  # type: ignore[arg-type]
    salted = write_series(head, tmp_path / "three", uid_salt="again", **small)  # type: ignore[arg-type]
    assert [f.read_bytes() for f in one.files] == [f.read_bytes() for f in two.files]
    assert salted.series_uid != one.series_uid
    uids = {pydicom.dcmread(f, stop_before_pixels=True).SOPInstanceUID for t in (one, salted) for f in t.files}
    assert len(uids) == 12


def test_descending_series_numbers_from_the_vertex(head: PhantomHead, tmp_path: Path) -> None:
    truth = write_series(head, tmp_path, slices=30, matrix=64, descending=True)
    z = [float(pydicom.dcmread(f, stop_before_pixels=True).ImagePositionPatient[2]) for f in truth.files]
    numbers = [int(pydicom.dcmread(f, stop_before_pixels=True).InstanceNumber) for f in truth.files]
    assert numbers == list(range(1, 31))
    assert z == sorted(z, reverse=True)
    assert truth.voxel_to_lps[2, 3] == pytest.approx(min(z), abs=1e-3)


def test_patient_and_date_can_be_chosen_and_truth_is_saved_beside(head: PhantomHead, tmp_path: Path) -> None:
    patient = Patient(name="Test^Other", patient_id="ID9", birth_date="19400229", sex="F", accession_number="ACC9")
    truth = write_series(
        head, tmp_path / "dicom", slices=4, matrix=32, patient=patient, acquired=datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
    )
    first = pydicom.dcmread(truth.files[0])
    assert (str(first.PatientName), first.PatientID, first.AccessionNumber) == ("Test^Other", "ID9", "ACC9")
    assert (first.StudyDate, first.PatientAge) == ("20270301", "087Y")
    truth.save(tmp_path / "truth.json")
    saved = json.loads((tmp_path / "truth.json").read_text())
    assert saved["core_ml"] == 60.0
    assert saved["side"] == "right"
    assert np.allclose(saved["scanner_lps_mm_to_network_voxel"], truth.lps_to_network)
    assert sorted(p.name for p in (tmp_path / "dicom").iterdir()) == sorted(saved["files"])


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless]
)
def test_every_transfer_syntax_holds_the_same_pixels(head: PhantomHead, tmp_path: Path, syntax: str) -> None:
    plain = write_series(head, tmp_path / "plain", slices=3, matrix=64)
    coded = write_series(head, tmp_path / "coded", slices=3, matrix=64, syntax=syntax)
    assert pydicom.dcmread(coded.files[0]).file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(stack(plain), stack(coded))
    assert plain.series_uid == coded.series_uid


@pytest.mark.servers
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless])
def test_instances_are_valid_ct_images(head: PhantomHead, tmp_path: Path, tool: Callable[[str], str], syntax: str) -> None:
    dciodvfy = tool("dciodvfy")
    truth = write_series(head, tmp_path, slices=3, matrix=64, syntax=syntax)
    for file in truth.files:
        report = subprocess.run([dciodvfy, str(file)], capture_output=True, text=True, check=False)
        lines = (report.stdout + report.stderr).splitlines()
        assert [line for line in lines if line.startswith(("Error", "Warning"))] == []
        assert "CTImage" in lines
