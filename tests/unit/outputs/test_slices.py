"""Orientation, window, tint and outline of the slice pictures."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from corewatch.findings import CORE_MAP_THRESHOLD, Side
from corewatch.geometry import NETWORK_SHAPE
from outputs.pages import axial_slices as slices
from outputs.pages import overlay_slices as overlay
from tests.support.results import finding, make_case, volumes


def block(i: slice, j: slice, k: slice, value: int = 100) -> NDArray[np.uint8]:
    volume = np.zeros(NETWORK_SHAPE, np.uint8)
    volume[i, j, k] = value
    return volume


LOW, HIGH = slice(10, 30), slice(110, 140)
"""Low and high indices along an axis."""


@pytest.mark.parametrize(
    ("i", "j", "rows", "columns"),
    [
        (LOW, HIGH, "upper", "left"),  # patient's right, anterior
        (HIGH, HIGH, "upper", "right"),  # patient's left, anterior
        (LOW, LOW, "lower", "left"),  # patient's right, posterior
        (HIGH, LOW, "lower", "right"),  # patient's left, posterior
    ],
)
def test_radiological_convention_golden(i: slice, j: slice, rows: str, columns: str) -> None:
    """The patient's right (low i in L-A-S) is on the picture's left, anterior (high j) is up."""
    picture = slices.render(block(i, j, slice(60, 61)), None, 60, 2.0)[:, :, 0]
    height, width = picture.shape
    where_rows, where_columns = np.nonzero(picture > 128)
    assert (height, width) == (364, 292)
    assert (where_rows.max() < height / 2) if rows == "upper" else (where_rows.min() > height / 2)
    assert (where_columns.max() < width / 2) if columns == "left" else (where_columns.min() > width / 2)


def test_radiological_is_an_exact_permutation() -> None:
    rng = np.random.default_rng(0)
    volume = rng.integers(0, 100, NETWORK_SHAPE).astype(np.uint8)
    plane = slices.radiological(volume, 7)
    for row, column in ((0, 0), (181, 145), (20, 100), (150, 3)):
        assert plane[row, column] == volume[column, 181 - row, 7]


def test_map_lies_where_the_voxels_are() -> None:
    """Voxels of the map on the patient's left, anterior, tint the picture's right upper quarter and nothing else."""
    core_map = block(HIGH, HIGH, slice(60, 61))
    picture = slices.render(np.full(NETWORK_SHAPE, 40, np.uint8), core_map, 60, 1.0).astype(int)
    coloured = np.ptp(picture, axis=2) > 5
    rows, columns = np.nonzero(coloured)
    # bicubic interpolation may reach two pixels beyond the block
    assert columns.min() >= 108
    assert columns.max() <= 141
    assert rows.min() >= 181 - 141
    assert rows.max() <= 181 - 108
    assert coloured[181 - 139 : 181 - 110, 110:140].all()


def test_other_slices_stay_grey() -> None:
    picture = slices.render(np.full(NETWORK_SHAPE, 40, np.uint8), block(HIGH, HIGH, slice(60, 61)), 61, 1.0)
    assert (np.ptp(picture.astype(int), axis=2) == 0).all()


@pytest.mark.parametrize(("hu", "grey"), [(0, 0), (50, 128), (100, 255)])
def test_window_is_0_to_100_hu(hu: int, grey: int) -> None:
    picture = slices.render(np.full(NETWORK_SHAPE, hu, np.uint8), None, 10, 1.0)
    assert np.abs(picture.astype(int) - grey).max() <= 1


def test_outline_is_drawn_at_the_threshold_only() -> None:
    head = np.full(NETWORK_SHAPE, 40, np.uint8)

    def outlined(value: int) -> bool:
        picture = slices.render(head, block(HIGH, HIGH, slice(60, 61), value), 60, 2.0)
        return bool((picture == np.array(slices.CONTOUR)).all(axis=2).any())

    assert not outlined(CORE_MAP_THRESHOLD - 10)
    assert outlined(CORE_MAP_THRESHOLD + 10)


def test_faint_values_do_not_veil_the_brain() -> None:
    head = np.full(NETWORK_SHAPE, 40, np.uint8)
    faint = block(HIGH, HIGH, slice(60, 61), slices.MAP_VISIBLE_FROM - 5)
    assert (slices.render(head, faint, 60, 1.0) == slices.render(head, None, 60, 1.0)).all()


def test_tint_grows_lighter_with_the_value() -> None:
    """A scale whose luminance rises all the way is readable without colour vision."""
    luminance = slices.tint().astype(float) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > 0).all()


def test_map_of_nothing_is_not_drawn() -> None:
    assert not slices.map_is_shown(finding(alert=False, side=Side.NONE))
    assert slices.map_is_shown(finding(alert=True, side=Side.NONE))
    assert slices.map_is_shown(finding(alert=False, side=Side.RIGHT))


def test_level_is_the_templates_height() -> None:
    assert slices.level_mm(0) == -52.0
    assert slices.level_mm(52) == 0.0


def test_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        slices.radiological(np.zeros((10, 10, 10), np.uint8), 3)


def test_overlay_slices(tmp_path_factory: pytest.TempPathFactory) -> None:
    """512 x 512 each, the core on the picture's right (patient's left) and above the middle (anterior)."""
    hu, core_map = volumes()
    case = make_case(tmp_path_factory.mktemp("case"))
    pages = {page.k: page.pixels for page in overlay.render_overlays(case, hu, core_map, range(70, 81, 5))}
    assert list(pages) == [70, 75, 80]
    assert {page.shape for page in pages.values()} == {(512, 512, 3)}
    rows, columns = np.nonzero((pages[75] == np.array(slices.CONTOUR)).all(axis=2))
    inside = columns > 80  # beyond the colour bar's mark
    assert columns[inside].min() > 256
    assert rows[inside].max() < 256
    first_row, first_column = rows[inside].mean(), columns[inside].mean()
    assert first_column == pytest.approx((512 - 365) / 2 + 105.5 * 2.5, abs=3)
    assert first_row == pytest.approx(27 + (181.5 - 125) * 2.5, abs=3)


def test_published_patient_has_the_core_on_the_picture_s_left(shared: Path) -> None:
    """The published example's core is in the patient's right hemisphere (x < 73)."""
    folder = shared / "reference" / "deepsymnet"
    hu, core_map = (
        np.asarray(nibabel.load(folder / f"sub-0151_{name}.nii.gz").dataobj).astype(np.uint8) for name in ("aligned", "core_map")
    )
    key = int(slices.core_areas(core_map).argmax())
    picture = slices.render(hu, core_map, key, 2.0)
    _, columns = np.nonzero((picture == np.array(slices.CONTOUR)).all(axis=2))
    assert columns.size > 50
    assert columns.max() < picture.shape[1] / 2


def test_left_and_right_of_a_published_case(shared: Path) -> None:
    """The picture's left is the patient's right, by the world coordinates that the published file itself carries."""
    path = shared / "reference" / "deepsymnet" / "sub-0151_core_map.nii.gz"
    image = nibabel.load(path)
    core_map = np.asanyarray(image.dataobj)
    core = np.argwhere(core_map > 0.5 * core_map.max())
    right_mm = float((core @ image.affine[:3, :3].T + image.affine[:3, 3])[:, 0].mean())
    assert abs(right_mm) > 10
    scaled = np.rint(100.0 * core_map / core_map.max()).clip(0, 100).astype(np.uint8)
    picture = np.stack([slices.radiological(scaled, k) for k in range(scaled.shape[2])]) > CORE_MAP_THRESHOLD
    columns = np.argwhere(picture)[:, 2].mean() - (picture.shape[2] - 1) / 2
    assert np.sign(columns) == -np.sign(right_mm)
