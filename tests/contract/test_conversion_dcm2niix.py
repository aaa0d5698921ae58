"""dcm2niix as a second reference, mostly for what dicom2nifti refuses: tilted gantries, blocks of slices, compressed series."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from conversion.convert import convert_series
from conversion.media import find_files
from conversion.slices import Slice, slices_of_file
from conversion.volume_grid import AIR_HU
from corewatch.geometry import LPS_TO_RAS, apply
from corewatch.volumes import ScannerVolume


def theirs(paths: list[Path], folder: Path) -> dict[str, Any]:
    """What dcm2niix makes of the files: by the end of the name, such as "" and "_Tilt_1"."""
    program = shutil.which("dcm2niix", path=str(Path(sys.executable).parent)) or shutil.which("dcm2niix")
    if program is None:
        pytest.skip("dcm2niix is not installed")
    (folder / "in").mkdir()
    (folder / "out").mkdir()
    for n, path in enumerate(paths):
        (folder / "in" / f"{n:04d}.dcm").symlink_to(path)
    command = [program, "-z", "n", "-b", "n", "-f", "series", "-o", str(folder / "out"), str(folder / "in")]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return {path.stem.removeprefix("series"): nibabel.load(path) for path in (folder / "out").glob("*.nii")}


def by_height(paths: list[Path]) -> list[Slice]:
    slices = [one for path in paths for one in slices_of_file(path)]
    return sorted(slices, key=lambda one: (one.instance.position_lps or (0, 0, 0))[2])


def sampled(image: Any, ours: ScannerVolume, index: NDArray[np.intp]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Their values at the places of our voxels, and which of them lie within their grid."""
    place = apply(np.linalg.inv(image.affine) @ LPS_TO_RAS @ ours.voxel_to_lps, index)
    place[:, 2] = np.rint(place[:, 2])  # both have their voxels in the planes of the slices
    values = np.asarray(image.dataobj).astype(np.float32)
    inside = ((place >= 1) & (place <= np.array(image.shape) - 2)).all(axis=1)
    return map_coordinates(values, place.T, order=1, mode="nearest"), inside


@pytest.mark.parametrize(("name", "first"), [("Philips_phantom_tilted", 0), ("GE_tilted_human", 14)])
def test_a_tilted_stack_is_theirs_sheared_back(scanners: Path, tmp_path: Path, name: str, first: int) -> None:
    """The tilt tags of the two have opposite signs for the same geometry. Of the GE head the upper block, 14 slices of 7 mm."""
    paths = [one.path for one in by_height(find_files(scanners / name))[first:]]
    image, ours = theirs(paths, tmp_path)["_Tilt_1"], convert_series(paths)
    np.testing.assert_allclose(ours.spacing_mm, image.header.get_zooms(), atol=1e-4)
    assert ours.hu.shape[2] == image.shape[2]
    index = np.random.default_rng(0).integers(0, ours.hu.shape, (300_000, 3))
    wanted, inside = sampled(image, ours, index)
    inside &= wanted >= -1024  # below is padding, which we make air
    off = np.abs(ours.hu[tuple(index.T)] - wanted)[inside]
    assert inside.mean() > 0.5
    # both interpolate along the columns once, at fractions of their own: edges of 2000 HU differ, the rest hardly
    assert np.median(off) <= 8
    assert (off > 100).mean() < 0.03
    # half a pixel along the shear more or less, or the shear the other way round, is far off
    for shift in (1, -1):
        moved = ours.hu[tuple((index + np.array([0, shift, 0])).clip(0, np.array(ours.hu.shape) - 1).T)]
        assert np.abs(moved - wanted)[inside].mean() > 1.5 * off.mean()


def test_a_head_of_two_blocks_shows_every_slice_where_it_was(scanners: Path, tmp_path: Path) -> None:
    """14 slices of 4 mm, a step of 1.1 mm, 14 of 7 mm, tilted. dcm2niix gives the slices; their places are in the headers."""
    slices = by_height(find_files(scanners / "GE_tilted_human"))
    paths = [one.path for one in slices]
    raw, ours = theirs(paths, tmp_path)[""], convert_series(paths)
    np.testing.assert_allclose(ours.spacing_mm, [0.48828, 0.48828, 4.0], atol=0.02)
    values = np.asarray(raw.dataobj)[:, ::-1].astype(np.float32)  # they turn the rows
    first, last = slices[0].instance, slices[-1].instance
    assert first.orientation and first.position_lps and last.position_lps
    row, column = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    normal = np.cross(row, column)
    origins = np.array([one.instance.position_lps for one in slices])

    index = np.random.default_rng(1).integers(0, ours.hu.shape, (200_000, 3))
    points = apply(ours.voxel_to_lps, index)
    along = (origins - origins[0]) @ normal
    height = ((points - origins[0]) @ normal).clip(0, along[-1])
    upper = np.searchsorted(along, height).clip(1, len(along) - 1)
    share = (height - along[upper - 1]) / (along[upper] - along[upper - 1])

    def at(n: NDArray[np.intp]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Slice `n` at the foot of each point on it; what lies beyond the image is air."""
        way = points - origins[n]
        x, y = way @ row / 0.4882812, (way - (way @ normal)[:, None] * normal) @ column / 0.4882812
        found = map_coordinates(values, [x, y, n], order=1, mode="constant", cval=AIR_HU)
        return found, (y > 0) & (y < 511)

    (low, low_inside), (high, high_inside) = at(upper - 1), at(upper)
    wanted = low + (high - low) * share.astype(np.float32)
    inside = low_inside & high_inside & (low >= -1024) & (high >= -1024)
    assert inside.mean() > 0.5
    off = np.abs(ours.hu[tuple(index.T)] - wanted)[inside]
    assert off.mean() < 1.0
    assert np.percentile(off, 99) < 10


@pytest.mark.parametrize("name", ["Philips_phantom_5mm"])
def test_a_plain_series_agrees_voxel_by_voxel(scanners: Path, tmp_path: Path, name: str) -> None:
    paths = find_files(scanners / name)
    image, ours = theirs(paths, tmp_path)[""], convert_series(paths)
    to_ras = LPS_TO_RAS @ ours.voxel_to_lps
    values, affine = np.asarray(image.dataobj), image.affine
    for axis, flipped in itertools.product(range(3), (True,)):
        if (affine[:3, axis] @ to_ras[:3, axis] < 0) == flipped:
            values = np.flip(values, axis)
            turn = np.eye(4)
            turn[axis, axis], turn[axis, 3] = -1, image.shape[axis] - 1
            affine = affine @ turn
    np.testing.assert_allclose(to_ras, affine, atol=1e-3)
    measured = values >= -1024
    np.testing.assert_array_equal(ours.hu[measured], values[measured])
