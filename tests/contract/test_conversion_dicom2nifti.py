"""Where dicom2nifti accepts a series, our volume shows the same values at the same places; where it does not, we say why."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dicom2nifti.settings
import numpy as np
import pydicom
import pytest
from dicom2nifti.convert_dicom import dicom_array_to_nifti
from dicom2nifti.exceptions import ConversionError, ConversionValidationError
from pydicom.errors import InvalidDicomError
from scipy.ndimage import map_coordinates

from conversion.convert import convert_series
from conversion.media import find_files
from conversion.volume_grid import AIR_HU
from corewatch.errors import NotAnalysed
from corewatch.geometry import LPS_TO_RAS, apply
from corewatch.reasons import Reason
from corewatch.volumes import ScannerVolume


@pytest.fixture
def tilt_allowed() -> Iterator[None]:
    dicom2nifti.settings.disable_validate_orthogonal()
    yield
    dicom2nifti.settings.enable_validate_orthogonal()


def theirs(paths: list[Path]) -> Any:
    return dicom_array_to_nifti([pydicom.dcmread(path) for path in paths], None, reorient_nifti=False)["NII"]


def assert_agree(ours: ScannerVolume, image: Any, padding_below: int = -1024) -> None:
    """The same grid, up to the direction of the slices, and the same values on it. Below -1024 HU is padding, which we make air."""
    values, affine = np.asarray(image.dataobj), image.affine
    hu, to_ras = ours.hu, LPS_TO_RAS @ ours.voxel_to_lps
    if np.linalg.det(affine[:3, :3]) * np.linalg.det(to_ras[:3, :3]) < 0:
        last = values.shape[2] - 1
        values = values[:, :, ::-1]
        affine = affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, last], [0, 0, 0, 1.0]])
    np.testing.assert_allclose(to_ras, affine, atol=1e-3)
    measured = values >= padding_below
    np.testing.assert_array_equal(hu[measured], values[measured])
    assert (hu[~measured] <= AIR_HU).all()


def made(shared: Path, folder: Path, *options: str) -> list[Path]:
    head = shared / "reference" / "deepsymnet" / "sub-0151_aligned.nii.gz"
    command = [sys.executable, str(shared / "tools" / "make_series.py"), str(head), str(folder), "--slices", "12", *options]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return sorted(folder.glob("*.dcm"))


@pytest.mark.parametrize("options", [[], ["--descending"], ["--implicit", "--seed", "5", "--degrees", "10", "--millimetres", "15"]])
def test_a_made_head_agrees_voxel_by_voxel(shared: Path, tmp_path: Path, options: list[str]) -> None:
    paths = made(shared, tmp_path, *options)
    assert_agree(convert_series(paths[::-1]), theirs(paths))


def test_a_real_series_agrees_voxel_by_voxel(scanners: Path) -> None:
    paths = find_files(scanners / "Philips_phantom_5mm")
    assert len(paths) == 28  # the DICOMDIR beside them is none
    assert_agree(convert_series(paths), theirs(paths))


def test_a_real_tilted_series_shows_the_same_at_the_same_places(scanners: Path, tilt_allowed: None) -> None:
    """dicom2nifti leaves the shear in its affine, so interpolating its volume at our voxels' places must give our values."""
    paths = find_files(scanners / "Philips_phantom_tilted")
    image, ours = theirs(paths), convert_series(paths)
    axes = ours.voxel_to_lps[:3, :3] / ours.spacing_mm
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-5)

    random = np.random.default_rng(0)
    index = random.integers(0, ours.hu.shape, (200_000, 3))
    ras = apply(LPS_TO_RAS @ ours.voxel_to_lps, index)
    place = apply(np.linalg.inv(image.affine), ras)
    # our voxels lie in the planes of their slices
    assert np.abs(place[:, 2] - np.rint(place[:, 2])).max() < 0.02
    place[:, 2] = np.rint(place[:, 2])
    values = np.asarray(image.dataobj).astype(np.float32)
    wanted = map_coordinates(values, place.T, order=1, mode="constant", cval=AIR_HU)
    found = ours.hu[tuple(index.T)]
    last = np.array(image.shape) - 1
    inside = ((place >= 0) & (place <= last)).all(axis=1)
    outside = ((place < -1) | (place > last + 1)).any(axis=1)
    assert inside.sum() > 100_000
    assert outside.sum() > 1_000
    assert np.abs(found - wanted)[inside].max() <= 4  # places agree to a thousandth of a pixel, edges are 1800 HU high
    assert np.abs(found - wanted)[inside].mean() < 0.3
    assert (found[outside] == AIR_HU).all()


def test_their_gantry_tilt_is_our_volume(scanners: Path) -> None:
    paths = find_files(scanners / "Philips_phantom_tilted")
    with pytest.raises(ConversionValidationError, match="GANTRY_TILT"):
        theirs(paths)
    assert convert_series(paths).hu.shape == (512, 600, 54)


REFUSED = {
    "Philips_localizer": (Reason.NOT_A_VOLUME, "localizer"),
    "Philips_secondary_capture": (Reason.NOT_A_VOLUME, "no CT images"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_real_series_that_are_no_stack_end_with_a_reason(scanners: Path, name: str) -> None:
    reason, text = REFUSED[name]
    with pytest.raises(NotAnalysed) as caught:
        convert_series(find_files(scanners / name))
    assert caught.value.reason is reason
    assert text in str(caught.value)


REJECTS = {
    "notavolume/001": (Reason.NOT_A_VOLUME, "All 4 images lie at one position."),
    "slicecount/001": (Reason.NOT_CT, "It holds 2 x MR."),
    "sliceincrement/001": (Reason.MISSING_SLICES, "between 28.1 mm and 38.1 mm (LPS z)"),
    "sliceorientation/001": (Reason.NOT_CT, "4 of 4 slices are oriented differently."),
    # these two are blanked to air; their tilt and their gap of 1.5 mm are no obstacle
    "gantrytilting/001": (Reason.IMPLAUSIBLE_VALUES, "soft tissue: 0.0%"),
    "sliceincrement/002": (Reason.IMPLAUSIBLE_VALUES, "soft tissue: 0.0%"),
}


@pytest.mark.parametrize("name", REJECTS)
def test_what_dicom2nifti_rejects_ends_with_a_reason(shared: Path, name: str) -> None:
    reason, text = REJECTS[name]
    paths = find_files(shared / "data" / "odd" / "dicom2nifti_rejects" / name)
    with pytest.raises((ConversionError, ConversionValidationError)):
        theirs(paths)
    with pytest.raises(NotAnalysed) as caught:
        convert_series(paths)
    assert caught.value.reason is reason
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("enhanced_ct_perfusion_multiframe", Reason.TOO_FEW_SLICES),
        ("legacy_converted_enhanced_ct", Reason.TOO_FEW_SLICES),
        ("head_localizer", Reason.NOT_A_VOLUME),
        ("segmentation", Reason.NOT_CT),
        ("structured_report", Reason.NOT_CT),
        ("encapsulated_pdf", Reason.NOT_CT),
        ("no_meta", Reason.UNREADABLE),
        ("no_preamble", Reason.UNREADABLE),
        ("meta_missing_tsyntax", Reason.UNREADABLE),
        ("wrong_transfer_syntax", Reason.UNREADABLE),
    ],
)
def test_odd_objects_end_with_a_reason(shared: Path, name: str, reason: Reason) -> None:
    with pytest.raises(NotAnalysed) as caught:
        convert_series([shared / "data" / "odd" / f"{name}.dcm"])
    assert caught.value.reason is reason
    assert caught.value.detail


def every_series(*roots: Path) -> dict[tuple[str, str], list[Path]]:
    """Files of each series by folder and Series Instance UID."""
    series: dict[tuple[str, str], list[Path]] = {}
    for path in (path for root in roots for path in sorted(root.rglob("*")) if path.is_file()):
        try:
            uid = pydicom.dcmread(path, stop_before_pixels=True).get("SeriesInstanceUID")
        except (InvalidDicomError, AttributeError):
            continue
        if uid is not None:
            series.setdefault((str(path.parent.relative_to(root_of(path, roots))), str(uid)), []).append(path)
    return series


def root_of(path: Path, roots: tuple[Path, ...]) -> Path:
    return next(root for root in roots if path.is_relative_to(root))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_no_series_here_is_accepted_by_dicom2nifti_and_not_by_us(shared: Path, scanners: Path) -> None:
    agreed = []
    for (folder, _), paths in every_series(scanners, shared / "data" / "odd", shared / "data" / "encodings").items():
        try:
            image = theirs(paths)
        except (ConversionError, ConversionValidationError, IndexError, NotImplementedError, AttributeError):
            continue  # what it rejects is judged above
        assert_agree(convert_series(paths), image)
        agreed.append(folder)
    assert "Philips_phantom_5mm" in agreed
