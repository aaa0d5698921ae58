"""Scanning and writing, with a small ball instead of a head: quick, and its landmarks are known exactly."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from corewatch import RESEARCH_LABEL
from corewatch.findings import Side
from corewatch.geometry import NETWORK_TO_RAS, apply, is_rigid
from phantom.dicom_series import Patient, SeriesTruth, write_series
from phantom.head import HeadSpec, PhantomHead
from phantom.scan import Acquisition, place, slabs

MARKS = np.array([[30.0, 20.0, 30.0], [-34.0, -40.0, 20.0], [4.0, 30.0, -20.0]])
"""RAS mm of three steel balls in the phantom."""

SMALL: dict[str, Any] = {"slices": 6, "matrix": 64, "coverage_mm": 120.0}


@pytest.fixture(scope="module")
def ball() -> PhantomHead:
    """A ball of water, radius 80 mm, in the place of a head, with three marks of 2000 HU; voxels of 1 mm."""
    origin = np.array([-90.0, -110.0, -90.0])
    to_ras = np.eye(4)
    to_ras[:3, 3] = origin
    ras = np.moveaxis(np.indices((181, 181, 181), np.float32), 0, -1) + origin.astype(np.float32)
    hu = np.where(np.linalg.norm(ras - np.float32([0, -18, 0]), axis=-1) < 80, 40, -1000)
    for mark in MARKS:
        hu[np.linalg.norm(ras - mark.astype(np.float32), axis=-1) < 4] = 2000
    return PhantomHead(HeadSpec(1, 25.0, Side.LEFT), hu.astype(np.int16), to_ras, np.zeros(hu.shape, bool), 25.0)


def stack(truth: SeriesTruth) -> np.ndarray:
    """HU, shape (columns, rows, slices), slices from feet to head."""
    datasets = sorted((pydicom.dcmread(f) for f in truth.files), key=lambda d: float(d.ImagePositionPatient[2]))
    return np.stack([d.pixel_array.T.astype(np.float32) * d.RescaleSlope + d.RescaleIntercept for d in datasets], axis=2)


@given(seed=st.integers(0, 1000))
@settings(max_examples=6, deadline=None)
def test_truth_finds_landmarks_in_the_scan(ball: PhantomHead, seed: int) -> None:
    acquisition = Acquisition(slices=100, coverage_mm=200, matrix=120, pixel_mm=2.0, seed=seed, holder=False)
    scan = place(ball, acquisition)
    hu = np.concatenate([part for _, part in slabs(ball, scan)]).transpose(2, 1, 0)
    assert hu.shape == (120, 120, 100)
    voxels = apply(np.linalg.inv(scan.voxel_to_lps), apply(np.linalg.inv(scan.lps_to_template), MARKS))
    for expected in voxels:
        low = np.rint(expected).astype(int) - 4
        box = hu[tuple(slice(v, v + 9) for v in low)]
        weight = np.clip(box.astype(float) - 200, 0, None)
        found = [(weight * index).sum() / weight.sum() for index in np.indices(box.shape)] + low
        assert np.abs((found - expected) * 2.0).max() < 0.5  # mm
    assert is_rigid(scan.lps_to_template)
    assert np.allclose(apply(NETWORK_TO_RAS @ scan.lps_to_network, np.zeros(3)), apply(scan.lps_to_template, np.zeros(3)))


@given(seed=st.integers(0, 1000), degrees=st.floats(0, 20), millimetres=st.floats(0, 20))
@settings(max_examples=30, deadline=None)
def test_pose_stays_within_what_was_asked(ball: PhantomHead, seed: int, degrees: float, millimetres: float) -> None:
    scan = place(ball, Acquisition(seed=seed, degrees=degrees, millimetres=millimetres))
    straight = place(ball, Acquisition(seed=seed, degrees=0, millimetres=0))
    relative = scan.lps_to_template @ np.linalg.inv(straight.lps_to_template)
    angle = np.degrees(np.arccos(np.clip((np.trace(relative[:3, :3]) - 1) / 2, -1, 1)))
    assert angle <= degrees * np.sqrt(3) + 1e-3
    # x grows to the left in the scanner and to the right in the template
    assert straight.lps_to_template[0, 0] == -1
    assert np.allclose(straight.lps_to_template[:3, :3], np.diag([-1, -1, 1]))


def test_the_vertex_is_covered_and_air_stands_above_it(ball: PhantomHead) -> None:
    scan = place(ball, Acquisition(slices=50, coverage_mm=150, matrix=64, pixel_mm=4.0, noise_hu=0, holder=False))
    hu = np.concatenate([part for _, part in slabs(ball, scan)])
    top = np.flatnonzero((hu > -300).any(axis=(1, 2))).max()
    assert 1 <= 49 - top <= 4
    assert hu[-1].max() == -1000


def test_noise_has_the_spread_that_was_asked(ball: PhantomHead) -> None:
    acquisition = Acquisition(slices=60, coverage_mm=30, matrix=128, pixel_mm=0.5, noise_hu=6.0, holder=False)
    hu = np.concatenate([part for _, part in slabs(ball, place(ball, acquisition))])[:10].astype(float)
    water = hu[:, 40:90, 40:90]
    assert water.mean() == pytest.approx(40, abs=1.5)
    assert water.std() == pytest.approx(6, abs=0.8)
    smooth = np.corrcoef(water[:, :, 1:].ravel(), water[:, :, :-1].ravel())[0, 1]
    assert 0.6 < smooth < 0.95  # a soft kernel


def test_holder_lies_behind_the_head_and_can_be_left_out(ball: PhantomHead) -> None:
    common: dict[str, Any] = {"slices": 20, "coverage_mm": 120, "matrix": 128, "pixel_mm": 2.0, "noise_hu": 0}
    with_holder, without = (
        np.concatenate([p for _, p in slabs(ball, place(ball, Acquisition(holder=h, **common)))]) for h in (True, False)
    )
    added = (with_holder.astype(int) - without) > 200
    assert added.any()
    assert added[:, :64].sum() == 0  # rows in front of the middle of the head


@pytest.mark.parametrize("wrong", [{"slices": 1}, {"matrix": 8}, {"pixel_mm": 0.0}, {"coverage_mm": -5.0}])
def test_an_impossible_scan_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a scan needs"):
        Acquisition(**wrong)


def test_geometry_is_regular_and_matches_the_truth(ball: PhantomHead, tmp_path: Path) -> None:
    truth = write_series(ball, tmp_path, slices=40, matrix=64, coverage_mm=30.0)
    headers = [pydicom.dcmread(f, stop_before_pixels=True) for f in truth.files]
    positions = np.array([h.ImagePositionPatient for h in headers], float)
    index = np.stack([np.zeros(40), np.zeros(40), np.arange(40)], axis=1)
    assert np.abs(positions - apply(truth.voxel_to_lps, index)).max() < 1e-3
    assert np.diff(positions[:, 2]) == pytest.approx(0.75, abs=2e-4)
    assert [h.InstanceNumber for h in headers] == list(range(1, 41))
    assert {tuple(map(float, h.ImageOrientationPatient)) for h in headers} == {(1, 0, 0, 0, 1, 0)}
    assert float(headers[0].PixelSpacing[0]) == pytest.approx(3.84)
    assert len({h.SOPInstanceUID for h in headers}) == 40
    assert {h.SeriesInstanceUID for h in headers} == {truth.series_uid}
    assert {h.FrameOfReferenceUID for h in headers} == {truth.frame_of_reference_uid}


def test_descending_series_numbers_from_the_vertex(ball: PhantomHead, tmp_path: Path) -> None:
    truth = write_series(ball, tmp_path, slices=30, matrix=64, descending=True)
    headers = [pydicom.dcmread(f, stop_before_pixels=True) for f in truth.files]
    z = [float(h.ImagePositionPatient[2]) for h in headers]
    assert [int(h.InstanceNumber) for h in headers] == list(range(1, 31))
    assert z == sorted(z, reverse=True)
    assert truth.voxel_to_lps[2, 3] == pytest.approx(min(z), abs=1e-3)


def test_same_arguments_give_the_same_bytes(ball: PhantomHead, tmp_path: Path) -> None:
    one, two = (write_series(ball, tmp_path / name, **SMALL) for name in ("one", "two"))
    salted = write_series(ball, tmp_path / "salted", uid_salt="again", **SMALL)
    assert [f.read_bytes() for f in one.files] == [f.read_bytes() for f in two.files]
    assert np.array_equal(stack(one), stack(salted))
    uids = {pydicom.dcmread(f, stop_before_pixels=True).SOPInstanceUID for t in (one, salted) for f in t.files}
    assert len(uids) == 12
    assert len({one.series_uid, salted.series_uid, one.study_uid, salted.study_uid}) == 4


def test_instances_say_that_nobody_was_scanned(ball: PhantomHead, tmp_path: Path) -> None:
    header = pydicom.dcmread(write_series(ball, tmp_path, **SMALL).files[0])
    assert header.SOPClassUID == CTImageStorage
    assert str(header.PatientName) == "Phantom^Synthetic"
    assert header.QualityControlImage == "YES"
    assert header.ImageComments == RESEARCH_LABEL
    assert header.ContrastBolusAgent


def test_patient_and_date_can_be_chosen_and_truth_is_saved_beside(ball: PhantomHead, tmp_path: Path) -> None:
    patient = Patient(name="Test^Other", patient_id="ID9", birth_date="19400229", sex="F", accession_number="ACC9")
    acquired = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
    truth = write_series(ball, tmp_path / "dicom", patient=patient, acquired=acquired, **SMALL)
    first = pydicom.dcmread(truth.files[0])
    assert (str(first.PatientName), first.PatientID, first.AccessionNumber) == ("Test^Other", "ID9", "ACC9")
    assert (first.StudyDate, first.StudyTime, first.TimezoneOffsetFromUTC) == ("20270301", "120000", "+0000")
    truth.save(tmp_path / "truth.json")
    saved = json.loads((tmp_path / "truth.json").read_text(encoding="utf-8"))
    assert (saved["core_ml"], saved["side"], saved["head_seed"]) == (25.0, "left", 1)
    assert np.allclose(saved["scanner_lps_mm_to_network_voxel"], truth.lps_to_network)
    assert sorted(p.name for p in (tmp_path / "dicom").iterdir()) == sorted(saved["files"])


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless]
)
def test_every_transfer_syntax_holds_the_same_pixels(ball: PhantomHead, tmp_path: Path, syntax: str) -> None:
    plain = write_series(ball, tmp_path / "plain", **SMALL)
    coded = write_series(ball, tmp_path / "coded", syntax=syntax, **SMALL)
    assert pydicom.dcmread(coded.files[0]).file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(stack(plain), stack(coded))
    assert plain.series_uid == coded.series_uid


@pytest.mark.servers
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
def test_instances_are_valid_ct_images(ball: PhantomHead, tmp_path: Path, tool: Callable[[str], str], syntax: str) -> None:
    dciodvfy = tool("dciodvfy")
    for file in write_series(ball, tmp_path, syntax=syntax, **SMALL).files:
        report = subprocess.run([dciodvfy, str(file)], capture_output=True, text=True, check=False)
        lines = (report.stdout + report.stderr).splitlines()
        assert [line for line in lines if line.startswith(("Error", "Warning"))] == []
        assert "CTImage" in lines
