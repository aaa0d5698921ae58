"""What is written shows the same place in every reader, and only heads on the network's grid are taken in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from conversion.nifti import read_aligned, read_core_map, write_aligned, write_core_map, write_native_map
from corewatch.errors import NotAnalysed
from corewatch.geometry import LPS_TO_RAS, NETWORK_SHAPE, NETWORK_TO_RAS
from corewatch.reasons import Reason
from corewatch.volumes import AlignedHead


@pytest.fixture(scope="module")
def head() -> AlignedHead:
    return AlignedHead(np.random.default_rng(0).integers(0, 101, NETWORK_SHAPE, np.uint8), None, None)


def saved(path: Path, values: NDArray[Any], affine: NDArray[np.float64], kind: Any = nibabel.Nifti1Image) -> Path:
    kind(values, affine).to_filename(path)
    return path


def test_aligned_round_trip_and_header(tmp_path: Path, head: AlignedHead) -> None:
    path = tmp_path / "aligned.nii.gz"
    write_aligned(path, head)
    np.testing.assert_array_equal(read_aligned(path).hu, head.hu)
    image: Any = nibabel.load(path)
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(image.get_sform(), NETWORK_TO_RAS)
    np.testing.assert_allclose(image.get_qform(), NETWORK_TO_RAS, atol=1e-6)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (4, 4)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert (float(image.header["cal_min"]), float(image.header["cal_max"])) == (0, 100)
    assert nibabel.aff2axcodes(image.affine) == ("L", "A", "S")
    assert b"corewatch" in image.header["descrip"].tobytes()
    assert list(tmp_path.iterdir()) == [path]


def test_values_outside_are_clipped_when_written(tmp_path: Path, head: AlignedHead) -> None:
    loud = head.hu.copy()
    loud[0, 0, :2] = (101, 255)
    write_aligned(tmp_path / "a.nii.gz", AlignedHead(loud, None, None))
    np.testing.assert_array_equal(read_aligned(tmp_path / "a.nii.gz").hu, np.minimum(loud, 100))


def test_equal_volumes_make_equal_files(tmp_path: Path, head: AlignedHead) -> None:
    write_core_map(tmp_path / "a.nii.gz", head.hu)
    write_core_map(tmp_path / "b.nii.gz", np.asfortranarray(head.hu))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    np.testing.assert_array_equal(read_core_map(tmp_path / "a.nii.gz"), head.hu)


def test_a_native_map_lies_on_the_volume_it_came_from(tmp_path: Path) -> None:
    matrix = np.array([[0.4, 0.0, 0.0, -100], [0.0, 0.38, 0.2, -90], [0.0, -0.12, 0.6, 30], [0, 0, 0, 1]])
    hu = np.random.default_rng(1).integers(-1000, 2000, (20, 24, 9)).astype(np.int16)
    drawn = (hu > 500).astype(np.uint8) * 70
    write_native_map(tmp_path / "m.nii.gz", drawn, matrix)
    shown: Any = nibabel.load(tmp_path / "m.nii.gz")
    np.testing.assert_array_equal(np.asarray(shown.dataobj), drawn)
    np.testing.assert_allclose(shown.get_sform(), LPS_TO_RAS @ matrix, atol=1e-4)
    assert (int(shown.header["sform_code"]), int(shown.header["qform_code"])) == (1, 1)


def test_a_map_of_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="146"):
        write_core_map(tmp_path / "a.nii.gz", np.zeros((182, 146, 133), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, head: AlignedHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "aligned.nii.gz"
    write_aligned(path, head)
    before = path.read_bytes()

    def full(self: Any, *_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nibabel.Nifti1Image, "to_stream", full)
    with pytest.raises(OSError, match="No space"):
        write_aligned(path, AlignedHead(np.zeros(NETWORK_SHAPE, np.uint8), None, None))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("dtype", "name", "origin"),
    [
        (np.uint8, "a.nii.gz", (72, -108, -52)),
        (np.uint8, "a.nii", (90, -126, -72)),
        (np.int16, "a.nii.gz", (0, 0, 0)),
        (np.float32, "a.nii", (72, -108, -48)),
        (np.float64, "a.nii", (72, -108, -52)),
    ],
)
def test_any_type_and_origin_is_read(
    tmp_path: Path, dtype: type, name: str, origin: tuple[int, int, int], head: AlignedHead
) -> None:
    affine = NETWORK_TO_RAS.copy()
    affine[:3, 3] = origin
    values = head.hu.astype(dtype)
    if dtype is not np.uint8:
        values[0, 0, 0], values[1, 0, 0] = 3000, -1000
    found = read_aligned(saved(tmp_path / name, values, affine)).hu
    np.testing.assert_array_equal(found, np.clip(values, 0, 100).astype(np.uint8))
    assert found.dtype == np.uint8


def test_a_scaled_file_is_read_by_its_scale(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.full(NETWORK_SHAPE, 4000, np.int16), NETWORK_TO_RAS)
    image.header.set_slope_inter(0.01, 0)
    image.to_filename(tmp_path / "a.nii")
    assert (read_aligned(tmp_path / "a.nii").hu == 40).all()


def test_a_fourth_axis_of_one_is_dropped(tmp_path: Path, head: AlignedHead) -> None:
    np.testing.assert_array_equal(read_aligned(saved(tmp_path / "a.nii", head.hu[..., None], NETWORK_TO_RAS)).hu, head.hu)


def test_nifti_2_is_read_too(tmp_path: Path, head: AlignedHead) -> None:
    path = saved(tmp_path / "a.nii.gz", head.hu, NETWORK_TO_RAS, nibabel.Nifti2Image)
    np.testing.assert_array_equal(read_aligned(path).hu, head.hu)


def test_more_than_the_header_announces_is_unreadable(tmp_path: Path, head: AlignedHead) -> None:
    path = saved(tmp_path / "a.nii", head.hu, NETWORK_TO_RAS)
    with path.open("ab") as file:
        file.write(b"\0" * (30 << 20))
    with pytest.raises(NotAnalysed, match="larger"):
        read_aligned(path)


def turned(degrees: float) -> NDArray[np.float64]:
    angle = np.deg2rad(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn @ NETWORK_TO_RAS


@pytest.mark.parametrize(
    ("shape", "affine", "text"),
    [
        ((182, 146, 133), NETWORK_TO_RAS, "182 x 146 x 133"),
        ((*NETWORK_SHAPE, 2), NETWORK_TO_RAS, "x 2 voxels"),
        (NETWORK_SHAPE, np.diag([-1.0, -1.0, 1.0, 1.0]) @ NETWORK_TO_RAS, "R-P-S"),
        (NETWORK_SHAPE, np.diag([-1.0, 1.0, 1.0, 1.0]) @ NETWORK_TO_RAS, "R-A-S"),
        (NETWORK_SHAPE, NETWORK_TO_RAS @ np.diag([2.0, 2.0, 2.0, 1.0]), "2 x 2 x 2 mm"),
        (NETWORK_SHAPE, turned(1.0), "turned"),
    ],
)
def test_another_grid_is_refused_and_described(
    tmp_path: Path, shape: tuple[int, ...], affine: NDArray[np.float64], text: str
) -> None:
    with pytest.raises(NotAnalysed) as caught:
        read_aligned(saved(tmp_path / "a.nii", np.zeros(shape, np.uint8), affine))
    assert caught.value.reason is Reason.WRONG_GRID
    assert text in caught.value.detail


def test_a_file_without_orientation_is_refused(tmp_path: Path, head: AlignedHead) -> None:
    image = nibabel.Nifti1Image(head.hu, NETWORK_TO_RAS)
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    path = tmp_path / "a.nii"
    image.to_filename(path)
    with pytest.raises(NotAnalysed, match="oriented"):
        read_aligned(path)


def test_what_is_no_nifti_or_damaged_is_unreadable(tmp_path: Path, head: AlignedHead) -> None:
    whole = tmp_path / "whole.nii.gz"
    write_aligned(whole, head)
    data = whole.read_bytes()
    middle = bytearray(data)
    middle[len(data) // 2 : len(data) // 2 + 64] = b"\xff" * 64
    for content in (b"", b"text", data[:2000], data[: len(data) // 2], bytes(middle)):
        path = tmp_path / "a.nii.gz"
        path.write_bytes(content)
        with pytest.raises(NotAnalysed) as caught:
            read_aligned(path)
        assert caught.value.reason is Reason.UNREADABLE


def test_values_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAnalysed) as caught:
        read_aligned(saved(tmp_path / "a.nii", np.full(NETWORK_SHAPE, np.nan, np.float32), NETWORK_TO_RAS))
    assert caught.value.reason is Reason.IMPLAUSIBLE_VALUES


def test_a_missing_file_is_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_aligned(tmp_path / "gone.nii.gz")


def test_the_published_example_loads_as_it_is(shared: Path) -> None:
    path = shared / "reference" / "deepsymnet" / "sub-0151_aligned.nii.gz"
    image: Any = nibabel.load(path)
    np.testing.assert_array_equal(read_aligned(path).hu, np.asarray(image.dataobj))
