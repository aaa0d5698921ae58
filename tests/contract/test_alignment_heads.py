"""Heads of known placement come to lie there from any pose; what is no head, or lies otherwise than its header says, is refused."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from conversion.alignment import align, check_quality, map_to_scanner
from conversion.convert import convert_series
from conversion.media import find_files
from corewatch.errors import NotAnalysed
from corewatch.findings import Side
from corewatch.geometry import LPS_TO_RAS, NETWORK_TO_RAS, Matrix, apply
from corewatch.reasons import Reason
from corewatch.volumes import AlignedHead, ScannerVolume
from phantom.head import HeadSpec, PhantomHead, make_head
from phantom.scan import Acquisition, place, slabs

pytestmark = pytest.mark.slow

BRAIN_CENTRE = np.array([72.0, 90.0, 64.0])
"""Network voxel in the middle of the brain."""


@pytest.fixture(scope="module")
def head() -> PhantomHead:
    """A synthetic head with a large core on the left."""
    return make_head(HeadSpec(1, 80.0, Side.LEFT))


def scan(
    head: PhantomHead, seed: int, degrees: float = 20.0, millimetres: float = 20.0, slices: int = 115
) -> tuple[ScannerVolume, Matrix]:
    """The head on its table, and the right scanner LPS mm -> network voxel."""
    acquisition = Acquisition(slices, 230.0, 192, 1.3, degrees, millimetres, seed=seed)
    placed = place(head, acquisition)
    images = np.concatenate([part for _, part in slabs(head, placed)])
    return ScannerVolume(np.ascontiguousarray(images).transpose(2, 1, 0), placed.voxel_to_lps), placed.lps_to_network


def turned(volume: ScannerVolume, axis: str, degrees: float) -> ScannerVolume:
    """The same images under a header that is wrong about the patient's position by a rotation about the stack's middle."""
    middle = apply(volume.voxel_to_lps, (np.array(volume.hu.shape) - 1) / 2)
    wrong = np.eye(4)
    wrong[:3, :3] = Rotation.from_euler(axis, degrees, degrees=True).as_matrix()
    wrong[:3, 3] = middle - wrong[:3, :3] @ middle
    return ScannerVolume(volume.hu, wrong @ volume.voxel_to_lps)


def stored(volume: ScannerVolume, axes: tuple[int, ...]) -> ScannerVolume:
    """The same patient in the same place, with some axes of the grid running the other way."""
    matrix, hu = volume.voxel_to_lps.copy(), volume.hu
    for axis in axes:
        matrix[:3, 3] += matrix[:3, axis] * (hu.shape[axis] - 1)
        matrix[:3, axis] *= -1
        hu = np.flip(hu, axis)
    return ScannerVolume(hu, matrix)


def kept(volume: ScannerVolume, truth: Matrix, low_mm: float, high_mm: float) -> ScannerVolume:
    """The slices whose middle lies between two heights of the template, RAS mm."""
    slices = np.arange(volume.hu.shape[2])
    middle = np.stack([np.full(slices.shape, n / 2) for n in volume.hu.shape[:2]] + [slices], axis=1)
    height = apply(NETWORK_TO_RAS @ truth @ volume.voxel_to_lps, middle)[:, 2]
    index = np.flatnonzero((height >= low_mm) & (height <= high_mm))
    matrix = volume.voxel_to_lps.copy()
    matrix[:3, 3] = apply(matrix, np.array([0.0, 0.0, float(index[0])]))
    return ScannerVolume(volume.hu[:, :, index[0] : index[-1] + 1], matrix)


def accepted(volume: ScannerVolume) -> AlignedHead:
    """Align and hold the gate."""
    aligned = align(volume)
    assert aligned.quality is not None
    check_quality(aligned.quality)
    return aligned


def refusal(volume: ScannerVolume) -> NotAnalysed:
    """The error that ends the case."""
    with pytest.raises(NotAnalysed) as caught:
        accepted(volume)
    return caught.value


def midline_error(aligned: AlignedHead, truth: Matrix) -> tuple[float, float]:
    """Offset in mm in the middle of the brain, and angle in degrees, between the right midsagittal plane and ours."""
    assert aligned.lps_to_voxel is not None
    error = aligned.lps_to_voxel @ np.linalg.inv(truth)
    tilt = np.degrees(np.arcsin(np.linalg.norm(error[1:3, 0])))
    return float(abs(apply(error, BRAIN_CENTRE)[0] - BRAIN_CENTRE[0])), float(tilt)


def placement_error(aligned: AlignedHead, truth: Matrix) -> float:
    """Distance in mm by which the middle of the brain is off."""
    assert aligned.lps_to_voxel is not None
    return float(np.linalg.norm(apply(aligned.lps_to_voxel @ np.linalg.inv(truth), BRAIN_CENTRE) - BRAIN_CENTRE))


@pytest.mark.parametrize("seed", range(4))
def test_a_phantom_on_its_table_is_aligned_from_any_pose(head: PhantomHead, seed: int) -> None:
    volume, truth = scan(head, seed, degrees=25, millimetres=25)
    aligned = accepted(volume)
    offset, tilt = midline_error(aligned, truth)
    assert offset < 0.5
    assert tilt < 0.5
    assert placement_error(aligned, truth) < 3.0


def test_the_pose_does_not_matter(head: PhantomHead) -> None:
    grid = np.stack(np.meshgrid([15, 72, 129], [20, 90, 160], [20, 64, 115], indexing="ij"), -1).reshape(-1, 3).astype(float)
    moved = []
    for seed in range(5):
        volume, truth = scan(head, 10 + seed)
        matrix = accepted(volume).lps_to_voxel
        assert matrix is not None
        moved.append(apply(matrix @ np.linalg.inv(truth), grid))
    spread = np.linalg.norm(np.array(moved) - np.mean(moved, axis=0), axis=2)
    assert np.percentile(spread, 95) < 1.0


@pytest.mark.parametrize("axes", [(2,), (0, 1), (0, 2), (1, 2)], ids=["descending", "prone", "feet first", "feet first prone"])
def test_how_an_honest_header_runs_does_not_matter(head: PhantomHead, axes: tuple[int, ...]) -> None:
    volume, _ = scan(head, 20, degrees=8, slices=76)
    first, second = accepted(volume), accepted(stored(volume, axes))
    np.testing.assert_allclose(second.lps_to_voxel, first.lps_to_voxel, atol=0.02)


def test_the_result_does_not_depend_on_the_number_of_threads(head: PhantomHead) -> None:
    volume, _ = scan(head, 21, slices=76)
    one, three = align(volume, threads=1), align(volume, threads=3)
    np.testing.assert_array_equal(one.hu, three.hu)
    np.testing.assert_array_equal(one.lps_to_voxel, three.lps_to_voxel)
    assert one.quality == three.quality


def test_slices_of_five_millimetres_are_enough(head: PhantomHead) -> None:
    volume, truth = scan(head, 22, slices=46)
    offset, tilt = midline_error(accepted(volume), truth)
    assert offset < 0.5
    assert tilt < 0.5


@pytest.mark.parametrize(("axis", "degrees"), [("z", 180.0), ("y", 180.0), ("x", 180.0), ("z", 90.0), ("x", -90.0)])
def test_a_header_that_lies_about_the_position_is_refused(head: PhantomHead, axis: str, degrees: float) -> None:
    volume, _ = scan(head, 23, degrees=8, slices=76)
    error = refusal(turned(volume, axis, degrees))
    assert error.reason is Reason.ALIGNMENT_NOT_TRUSTED
    assert "patient position" in error.detail


@pytest.mark.parametrize(
    ("low_mm", "high_mm", "reason"),
    [
        (5.0, 200.0, Reason.TOO_LITTLE_COVERAGE),
        (-200.0, 15.0, Reason.TOO_LITTLE_COVERAGE),
        (-200.0, -55.0, Reason.NOT_A_HEAD),
    ],
    ids=["above the orbits", "lower half", "neck"],
)
def test_a_part_of_a_head_is_refused_for_its_cause(head: PhantomHead, low_mm: float, high_mm: float, reason: Reason) -> None:
    volume, truth = scan(head, 24, degrees=5)
    assert refusal(kept(volume, truth, low_mm, high_mm)).reason is reason


@pytest.mark.parametrize(("low_mm", "high_mm"), [(-35.0, 200.0), (-200.0, 62.0)], ids=["skull base missing", "vertex missing"])
def test_a_head_that_lacks_little_is_aligned(head: PhantomHead, low_mm: float, high_mm: float) -> None:
    volume, truth = scan(head, 24, degrees=5)
    offset, tilt = midline_error(accepted(kept(volume, truth, low_mm, high_mm)), truth)
    assert offset < 0.5
    assert tilt < 0.7


@pytest.mark.parametrize("stretched", [(0.78, 0.78, 0.78), (1.3, 1.3, 1.3), (1.0, 1.0, 0.65), (1.45, 1.0, 1.0)])
def test_a_header_that_lies_about_sizes_is_refused(head: PhantomHead, stretched: tuple[float, float, float]) -> None:
    volume, _ = scan(head, 26, degrees=5, slices=76)
    error = refusal(ScannerVolume(volume.hu, np.diag([*stretched, 1.0]) @ volume.voxel_to_lps))
    assert error.reason in (Reason.ALIGNMENT_NOT_TRUSTED, Reason.NOT_A_HEAD)


def test_the_core_of_the_phantom_is_found_back_on_the_scanners_slices(head: PhantomHead) -> None:
    volume, truth = scan(head, 25)
    core = affine_transform(
        head.core_mask.astype(np.float32) * 100,
        (np.linalg.inv(head.voxel_to_ras) @ NETWORK_TO_RAS)[:3, :3],
        (np.linalg.inv(head.voxel_to_ras) @ NETWORK_TO_RAS)[:3, 3],
        output_shape=(146, 182, 133),
        order=1,
    ).astype(np.uint8)
    native = map_to_scanner(core, truth, volume.hu.shape, volume.voxel_to_lps)
    voxel_ml = float(np.prod(volume.spacing_mm)) / 1000
    assert (native > 50).sum() * voxel_ml == pytest.approx(head.core_ml, rel=0.02)


def in_pose(hu: NDArray[np.float32], to_ras: Matrix, seed: int, outside: float) -> tuple[NDArray[np.float32], Matrix, Matrix]:
    """A reference volume scanned in a pose: values, voxel -> LPS, and the right LPS -> network voxel."""
    rng = np.random.default_rng(seed)
    lps_to_ras = np.eye(4)
    lps_to_ras[:3, :3] = Rotation.from_euler("xyz", rng.uniform(-20, 20, 3), degrees=True).as_matrix() @ LPS_TO_RAS[:3, :3]
    lps_to_ras[:3, 3] = np.array([0.0, -18.0, 12.0]) + rng.uniform(-15, 15, 3)
    shape, step = (200, 200, 150), np.array([1.25, 1.25, 1.5])
    voxel_to_lps = np.diag([*step, 1.0])
    voxel_to_lps[:3, 3] = -step * (np.array(shape) - 1) / 2
    to_head = np.linalg.inv(to_ras) @ lps_to_ras @ voxel_to_lps
    values = affine_transform(hu, to_head[:3, :3], to_head[:3, 3], output_shape=shape, order=1, cval=outside)
    return values, voxel_to_lps, np.linalg.inv(NETWORK_TO_RAS) @ lps_to_ras


@pytest.mark.parametrize("seed", [0, 1])
def test_the_mean_head_of_thirty_adults_lies_where_the_template_lies(shared: Path, seed: int) -> None:
    image = nib.load(shared / "reference" / "template" / "mean_ct_head_30_adults_hu.nii.gz")
    values, voxel_to_lps, truth = in_pose(image.get_fdata(dtype=np.float32), image.affine, seed, -1000.0)
    aligned = accepted(ScannerVolume(np.rint(values).astype(np.int16), voxel_to_lps))
    offset, tilt = midline_error(aligned, truth)
    assert offset < 0.2
    assert tilt < 0.2
    assert placement_error(aligned, truth) < 4.5


def test_a_head_larger_than_any_is_refused_for_its_size(shared: Path) -> None:
    """The mean head under a pixel spacing and steps that are a fifth too large; everything else about it is as it should be."""
    image = nib.load(shared / "reference" / "template" / "mean_ct_head_30_adults_hu.nii.gz")
    values, voxel_to_lps, _ = in_pose(image.get_fdata(dtype=np.float32), image.affine, 0, -1000.0)
    error = refusal(ScannerVolume(np.rint(values).astype(np.int16), np.diag([1.2, 1.2, 1.2, 1.0]) @ voxel_to_lps))
    assert error.reason is Reason.ALIGNMENT_NOT_TRUSTED
    assert "No head has these sizes: 11" in error.detail


@pytest.mark.parametrize("seed", [0, 1])
def test_the_published_patient_lies_where_it_was_published(shared: Path, seed: int) -> None:
    image = nib.load(shared / "reference" / "deepsymnet" / "sub-0151_aligned.nii.gz")
    published = np.asarray(image.dataobj, np.float32)
    values, voxel_to_lps, truth = in_pose(published, np.array(NETWORK_TO_RAS), seed, -1.0)
    hu = np.where(values <= 0, -1000, np.where(values >= 99, 700, values))
    aligned = accepted(ScannerVolume(np.rint(hu).astype(np.int16), voxel_to_lps))
    offset, tilt = midline_error(aligned, truth)
    # the patient's own plane of symmetry lies at index 71.2 of the published file
    assert offset < 0.5
    assert tilt < 0.5
    assert placement_error(aligned, truth) < 3.0


def test_a_patient_of_a_real_scanner_is_accepted(scanners: Path) -> None:
    """Tilted gantry, blocks of 4 and 7 mm, no contrast, head holder."""
    aligned = accepted(convert_series(find_files(scanners / "GE_tilted_human")))
    assert aligned.quality is not None
    assert aligned.quality.midline_mm < 0.5
    assert aligned.quality.midline_degrees < 0.5
