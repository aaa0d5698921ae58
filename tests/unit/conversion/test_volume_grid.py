"""The grid of a volume from positions alone, and how slices are laid onto it, against values worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conversion import volume_grid
from conversion.volume_grid import AIR_HU, LARGEST_GRID, VolumeGrid, check_grid, on_grid, place, plan_grid
from corewatch.errors import NotAnalysed
from corewatch.instance import Instance
from corewatch.reasons import Reason
from tests.support.instances import CORONAL, one


def at(*zs: float, **changes: Any) -> list[Instance]:
    known = {"rows": 5, "columns": 4, "pixel_spacing_mm": (0.7, 0.5)} | changes
    return [one(n + 1, position_lps=(-10.0, -20.0, z), **known) for n, z in enumerate(zs)]


def shifted(slices: list[Instance], *ways: tuple[float, float]) -> list[Instance]:
    """Slices whose positions slide by (x, y) mm."""
    return [replace(s, position_lps=(-10.0 + x, -20.0 + y, s.position_lps[2])) for s, (x, y) in zip(slices, ways, strict=True)]  # type: ignore[index]


# the plan -------------------------------------------------------------------------------------------------------------------------


def test_slices_on_a_grid_are_its_planes() -> None:
    grid = plan_grid(at(4.0, 0.0, 2.0))
    assert grid.order == (1, 2, 0)
    np.testing.assert_array_equal(grid.along_mm, [0.0, 2.0, 4.0])
    assert (grid.shape, grid.interpolated, grid.sheared, grid.resampled, grid.notes) == ((4, 5, 3), False, False, False, ())
    np.testing.assert_allclose(grid.voxel_to_lps, [[0.5, 0, 0, -10], [0, 0.7, 0, -20], [0, 0, 2, 0], [0, 0, 0, 1]])
    assert grid.tilt_degrees == 0.0


def test_a_coronal_stack_has_its_own_axes() -> None:
    slices = [replace(s, position_lps=(0.0, 3.0 * n, 50.0)) for n, s in enumerate(at(0, 0, 0, orientation=CORONAL))]
    np.testing.assert_allclose(
        plan_grid(slices).voxel_to_lps, [[0.5, 0, 0, 0], [0, 0, 3, 0], [0, -0.7, 0, 50], [0, 0, 0, 1]], atol=1e-12
    )


def test_rounded_cosines_are_made_orthonormal() -> None:
    grid = plan_grid(at(0.0, 2.0, 4.0, orientation=(0.999, 0.002, 0.0, 0.0, 1.001, 0.0)))
    axes = grid.voxel_to_lps[:3, :3] / [0.5, 0.7, 2.0]
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(axes[:, 0], np.array([0.999, 0.002, 0.0]) / np.hypot(0.999, 0.002))


@pytest.mark.parametrize(
    ("zs", "count", "step"),
    [
        ((0.0, 1.0, 2.0, 4.0, 5.0), 6, 1.0),
        ((0.0, 1.0, 2.0, 4.0, 5.4), 5, 1.35),
        ((0.0, 1.0, 2.0, 3.0, 6.0, 9.0, 12.0), 13, 1.0),
        ((0.0, 1.0, 2.0, 3.0, 6.2, 9.4, 12.6), 14, 12.6 / 13),
        ((0.0, 0.001, 0.002, 9.0), 9001, 0.001),
    ],
)
def test_irregular_steps_are_interpolated_in_the_finest_one_that_meets_the_last_slice(
    zs: tuple[float, ...], count: int, step: float
) -> None:
    grid = plan_grid(at(*zs))
    assert grid.interpolated
    assert grid.resampled
    assert grid.shape == (4, 5, count)
    assert grid.voxel_to_lps[2, 2] == pytest.approx(step)
    steps = np.diff(zs)
    assert grid.notes == (f"Interpolated: slices {steps.min():.2f} to {steps.max():.2f} mm apart.",)


@pytest.mark.parametrize(
    ("ways", "shift", "low", "extra"),
    [
        # 0.5 mm between columns, 0.7 mm between rows: 1 mm are 2 columns, 1.4 mm are 2 rows
        (((0, 0), (1, 0), (2, 0)), ((0, 0), (2, 0), (4, 0)), (0, 0), (4, 0)),
        (((0, 0), (-1, 0), (-2, 0)), ((4, 0), (2, 0), (0, 0)), (-4, 0), (4, 0)),
        (((0, 0), (0, 1.4), (0, 2.8)), ((0, 0), (0, 2), (0, 4)), (0, 0), (0, 4)),
        (((0, 0), (0.25, -0.35), (0.5, -0.7)), ((0, 1), (0.5, 0.5), (1, 0)), (0, -1), (1, 1)),
        (((0, 0), (0.15, 0), (0.3, 0)), ((0, 0), (0.3, 0), (0.6, 0)), (0, 0), (1, 0)),
        # what is within the tolerance of a position is no tilt, along either axis
        (((0, 0), (0.05, 0), (0.099, 0)), ((0, 0), (0, 0), (0, 0)), (0, 0), (0, 0)),
        (((0, 0), (1, 0.05), (2, 0.099)), ((0, 0), (2, 0), (4, 0)), (0, 0), (4, 0)),
        (((0, 0), (0.05, 1.4), (0.099, 2.8)), ((0, 0), (0, 2), (0, 4)), (0, 0), (0, 4)),
    ],
)
def test_slices_that_slide_are_sheared_back(
    ways: tuple[tuple[float, float], ...], shift: tuple[tuple[float, float], ...], low: tuple[int, int], extra: tuple[int, int]
) -> None:
    grid = plan_grid(shifted(at(0.0, 2.0, 4.0), *ways))
    np.testing.assert_allclose(grid.shift, shift, atol=1e-9)
    assert grid.shape == (4 + extra[0], 5 + extra[1], 3)
    np.testing.assert_allclose(grid.voxel_to_lps[:3, 3], [-10 + low[0] * 0.5, -20 + low[1] * 0.7, 0.0])
    assert grid.sheared is grid.resampled is bool(np.any(shift))
    assert not grid.interpolated


def test_a_slide_is_fitted_so_that_rounding_does_not_jitter() -> None:
    grid = plan_grid(shifted(at(0.0, 2.0, 4.0, 6.0), (0, 0), (1.04, 0), (1.96, 0), (3.0, 0)))
    np.testing.assert_allclose(np.diff(grid.shift[:, 0]), np.diff(grid.shift[:, 0])[0])
    assert grid.shift[3, 0] == pytest.approx(2 * (2 * 1.04 + 4 * 1.96 + 6 * 3.0) / (4 + 16 + 36) * 6)


@pytest.mark.parametrize(
    ("way", "degrees"), [((4.0, 0.0), 45.0), ((0.0, 4.0), 45.0), ((-4.0, 0.0), 45.0), ((0.0, 4 * 3**0.5), 60.0)]
)
def test_the_tilt_is_told_in_degrees(way: tuple[float, float], degrees: float) -> None:
    grid = plan_grid(shifted(at(0.0, 2.0, 4.0), (0, 0), (way[0] / 2, way[1] / 2), way))
    assert grid.tilt_degrees == pytest.approx(degrees)
    assert grid.notes == (f"Gantry tilted by {degrees:.1f}°; slices moved back.",)


@pytest.mark.parametrize(("interpolated", "tilt"), [(True, 0.0), (False, 1.0), (True, 1.0), (False, 0.0)])
@pytest.mark.parametrize("over", [0, 1])
def test_a_grid_too_large_for_memory_is_refused_where_it_would_be_made(interpolated: bool, tilt: float, over: int) -> None:
    assert LARGEST_GRID == 2**30
    shift = np.zeros((2, 2))
    shift[1, 0] = tilt
    grid = VolumeGrid((0, 1), np.array([0.0, 1.0]), shift, (2**15, 2**15 + over, 1), np.eye(4), interpolated)
    if over and (interpolated or tilt):
        with pytest.raises(NotAnalysed, match="32768 x 32769 x 1 voxels") as caught:
            check_grid(grid)
        assert caught.value.reason is Reason.IRREGULAR_GEOMETRY
    else:
        check_grid(grid)


# laying slices onto it ------------------------------------------------------------------------------------------------------------


IMAGE = np.array([[10, 20], [30, 50]], np.int16)
AIR = -1000


@pytest.mark.parametrize(
    ("shift", "wanted"),
    [
        ((0, 0), [[10, 20, AIR, AIR], [30, 50, AIR, AIR], [AIR] * 4]),
        ((1, 0), [[AIR, 10, 20, AIR], [AIR, 30, 50, AIR], [AIR] * 4]),
        ((2, 1), [[AIR] * 4, [AIR, AIR, 10, 20], [AIR, AIR, 30, 50]]),
        ((0.5, 0), [[-495, 15, -490, AIR], [-485, 40, -475, AIR], [AIR] * 4]),
        ((1.5, 0), [[AIR, -495, 15, -490], [AIR, -485, 40, -475], [AIR] * 4]),
        ((0.25, 0), [[-242, 18, -745, AIR], [-228, 45, -738, AIR], [AIR] * 4]),
        ((0, 0.5), [[-495, -490, AIR, AIR], [20, 35, AIR, AIR], [-485, -475, AIR, AIR]]),
        ((1, 0.25), [[AIR, -242, -235, AIR], [AIR, 25, 42, AIR], [AIR, -742, -738, AIR]]),
    ],
)
def test_a_slice_is_placed_by_parts_of_a_pixel(shift: tuple[float, float], wanted: list[list[int]]) -> None:
    out = np.full((3, 4), 7, np.int16)
    place(IMAGE, np.array(shift, np.float64), out)
    np.testing.assert_array_equal(out, wanted)
    assert AIR_HU == AIR


def native(count: int, rows: int = 5, columns: int = 4) -> np.ndarray:
    return (np.arange(count * rows * columns).reshape(count, rows, columns) ** 2 % 997).astype(np.int16)


def test_where_nothing_is_to_be_done_nothing_is_copied() -> None:
    images = native(3)
    assert on_grid(plan_grid(at(0.0, 2.0, 4.0)), images, 2) is images


@pytest.mark.parametrize("threads", [1, 2, 9])
def test_between_irregular_slices_values_are_mixed_by_distance(threads: int) -> None:
    images = native(4)
    volume = on_grid(plan_grid(at(0.0, 1.0, 2.0, 4.0)), images, threads)
    wanted = [images[0], images[1], images[2], np.rint((images[2].astype(np.float32) + images[3]) / 2), images[3]]
    np.testing.assert_array_equal(volume, np.array(wanted, np.int16))
    assert volume.dtype == np.int16


def test_unequal_parts_of_a_step() -> None:
    images = np.array([0, 100, 200, 800], np.int16)[:, None, None] * np.ones((1, 5, 4), np.int16)
    volume = on_grid(plan_grid(at(0.0, 1.0, 2.0, 6.0)), images, 1)
    assert volume[:, 0, 0].tolist() == [0, 100, 200, 350, 500, 650, 800]


@pytest.mark.parametrize("threads", [1, 3])
def test_sheared_slices_lie_where_the_plan_says(threads: int) -> None:
    images = native(3)
    grid = plan_grid(shifted(at(0.0, 2.0, 4.0), (0, 0), (0.5, 0), (1.0, 0)))
    volume = on_grid(grid, images, threads)
    assert volume.shape == (3, 5, 6)
    for k in range(3):
        np.testing.assert_array_equal(volume[k, :, k : k + 4], images[k])
        assert (np.delete(volume[k], np.s_[k : k + 4], axis=1) == AIR).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_sheared_and_interpolated_together(threads: int) -> None:
    images = native(4)
    slices = shifted(at(0.0, 1.0, 2.0, 4.0), (0, 0), (0.5, 0), (1.0, 0), (2.0, 0))
    volume = on_grid(plan_grid(slices), images, threads)
    assert volume.shape == (5, 5, 8)
    sheared = np.full((4, 5, 8), AIR, np.int16)
    for k, first in enumerate((0, 1, 2, 4)):
        sheared[k, :, first : first + 4] = images[k]
    np.testing.assert_array_equal(volume[[0, 1, 2, 4]], sheared)
    np.testing.assert_array_equal(volume[3], np.rint((sheared[2].astype(np.float32) + sheared[3]) / 2))


def test_of_the_sheared_slices_two_are_made_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    real = volume_grid._sheared
    monkeypatch.setattr(volume_grid, "_sheared", lambda grid, images, n: (made.append(n), real(grid, images, n))[1])
    on_grid(plan_grid(at(0.0, 1.0, 2.0, 4.0)), native(4), 1)
    assert made == [0, 1, 2, 3], "each slice once"
