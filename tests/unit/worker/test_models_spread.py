"""The perturbations move the head by what they say, and the interval is what it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from corewatch.geometry import NETWORK_SHAPE
from worker.models.spread import CENTRE, PERTURBATIONS, Perturbation, interval, perturbed


def ball(centre: tuple[float, float, float], radius: float = 5.0) -> NDArray[np.uint8]:
    grid = np.indices(NETWORK_SHAPE, sparse=True)
    squared = sum((axis - c) ** 2 for axis, c in zip(grid, centre, strict=True))
    return (60 * np.exp(-squared / (2 * radius**2))).astype(np.uint8)


def centroid(volume: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.array(ndimage.center_of_mass(volume))


@pytest.mark.parametrize("size", [5, 15])
def test_each_set_has_its_size_starts_with_the_identity_and_repeats_nothing(size: int) -> None:
    chosen = PERTURBATIONS[size]

    assert len(set(chosen)) == len(chosen) == size
    assert chosen[0].is_identity
    assert not any(p.is_identity for p in chosen[1:])


@pytest.mark.parametrize("size", [5, 15])
def test_each_displacement_has_a_name_of_its_own(size: int) -> None:
    names = [str(p) for p in PERTURBATIONS[size]]

    assert len(set(names)) == size
    assert names[:5] == ["as analysed", "-1 mm L", "1 mm L", "-1 degree about S", "1 degree about S"]


@pytest.mark.parametrize("size", [5, 15])
def test_each_set_is_balanced(size: int) -> None:
    chosen = PERTURBATIONS[size]

    np.testing.assert_array_equal(np.sum([p.shift_mm for p in chosen], axis=0), 0)
    np.testing.assert_array_equal(np.sum([p.degrees for p in chosen], axis=0), 0)


@pytest.mark.parametrize("shift", [(1.0, 0.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -1.0)])
def test_a_shift_moves_every_value_by_whole_voxels(shift: tuple[float, float, float]) -> None:
    head = np.random.default_rng(0).integers(0, 101, NETWORK_SHAPE, dtype=np.uint8)

    moved = perturbed(head, Perturbation(shift_mm=shift))

    expected = np.zeros(NETWORK_SHAPE)
    steps = [int(s) for s in shift]
    target = tuple(slice(max(0, s), n + min(0, s)) for s, n in zip(steps, NETWORK_SHAPE, strict=True))
    source = tuple(slice(max(0, -s), n + min(0, -s)) for s, n in zip(steps, NETWORK_SHAPE, strict=True))
    expected[target] = head[source]
    np.testing.assert_array_equal(moved, expected)


def test_fractions_of_a_voxel_are_refused() -> None:
    with pytest.raises(ValueError, match="whole"):
        Perturbation(shift_mm=(0.5, 0.0, 0.0))


@pytest.mark.parametrize(
    ("degrees", "offset", "direction"),
    [
        ((0.0, 0.0, 1.0), (0, 60, 0), (-1, 0, 0)),  # turning: what lies anterior goes towards the patient's right
        ((0.0, 0.0, -1.0), (0, 60, 0), (1, 0, 0)),
        ((0.0, 1.0, 0.0), (0, 0, 50), (1, 0, 0)),  # tilting: the vertex goes towards the patient's left
        ((1.0, 0.0, 0.0), (0, 60, 0), (0, 0, 1)),  # nodding: the forehead goes up
    ],
)
def test_a_degree_moves_a_point_by_its_arc(
    degrees: tuple[float, float, float], offset: tuple[int, int, int], direction: tuple[int, int, int]
) -> None:
    start = CENTRE + offset
    head = ball(tuple(start))

    moved = centroid(perturbed(head, Perturbation(degrees=degrees))) - centroid(head.astype(np.float32))

    np.testing.assert_allclose(moved, np.radians(1) * np.linalg.norm(offset) * np.array(direction), atol=0.05)


def test_turning_within_slices_equals_turning_the_volume() -> None:
    head = ball((100.0, 120.0, 60.0))
    together = Perturbation(degrees=(0.0, 0.0, 1.0))
    nearly = Perturbation(degrees=(0.0, 1e-12, 1.0))  # goes the general way

    np.testing.assert_allclose(perturbed(head, together), perturbed(head, nearly), atol=1e-3)


def test_values_stay_within_the_networks_range() -> None:
    head = np.zeros(NETWORK_SHAPE, np.uint8)
    head[40:100, 40:140, 30:100] = 100

    moved = perturbed(head, Perturbation(degrees=(0.0, 0.0, 1.0)))

    assert moved.dtype == np.float32
    assert moved.min() >= 0
    assert moved.max() <= 100


@given(volumes=st.lists(st.floats(0, 500), min_size=1, max_size=15))
def test_the_interval_lies_within_the_volumes_and_around_their_median(volumes: list[float]) -> None:
    low, high = interval(volumes)

    slack = 1e-9 * max(volumes)
    assert min(volumes) - slack <= low <= float(np.median(volumes)) + slack
    assert float(np.median(volumes)) - slack <= high <= max(volumes) + slack


def test_the_interval_is_from_the_10th_to_the_90th_percentile() -> None:
    assert interval([50.0, 10.0, 20.0, 30.0, 40.0]) == pytest.approx((14.0, 46.0))
