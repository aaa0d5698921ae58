"""Frames and matrices: the constants are the published ones, and each function does what its name says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from corewatch.geometry import (
    LPS_TO_RAS,
    MIDLINE_INDEX,
    NETWORK_SHAPE,
    NETWORK_TO_RAS,
    NETWORK_VOXEL_ML,
    apply,
    inverse,
    is_rigid,
    slice_normal,
    voxel_sizes,
)


def test_the_networks_frame_is_the_published_one() -> None:
    assert NETWORK_SHAPE == (146, 182, 133)
    assert NETWORK_VOXEL_ML == 0.001
    assert MIDLINE_INDEX == 73
    np.testing.assert_array_equal(NETWORK_TO_RAS, [[-1, 0, 0, 71.5], [0, 1, 0, -108], [0, 0, 1, -52], [0, 0, 0, 1]])
    np.testing.assert_array_equal(LPS_TO_RAS, np.diag([-1, -1, 1, 1]))


@pytest.mark.parametrize("matrix", [NETWORK_TO_RAS, LPS_TO_RAS])
def test_constants_cannot_be_written_to(matrix: np.ndarray) -> None:
    with pytest.raises(ValueError, match="read-only"):
        matrix[0, 0] = 7.0


def test_a_point_of_the_networks_grid_in_every_frame() -> None:
    np.testing.assert_allclose(apply(NETWORK_TO_RAS, np.array([0.0, 0.0, 0.0])), [71.5, -108.0, -52.0])
    np.testing.assert_allclose(apply(NETWORK_TO_RAS, np.array([[71.5, 108.0, 52.0], [72.5, 109.0, 54.0]])), [[0, 0, 0], [-1, 1, 2]])
    np.testing.assert_allclose(apply(LPS_TO_RAS, np.array([1.0, 2.0, 3.0])), [-1.0, -2.0, 3.0])


def test_a_matrix_acts_on_columns_and_its_inverse_leads_back() -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", (10, 20, 30), degrees=True).as_matrix() * [0.5, 0.7, 2.0]
    matrix[:3, 3] = (1.0, 2.0, 3.0)
    points = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [4.0, 5.0, 6.0]])
    homogeneous = np.column_stack([points, np.ones(3)]) @ matrix.T
    np.testing.assert_allclose(apply(matrix, points), homogeneous[:, :3])
    np.testing.assert_allclose(apply(inverse(matrix), apply(matrix, points)), points, atol=1e-12)
    np.testing.assert_allclose(voxel_sizes(matrix), [0.5, 0.7, 2.0])


@pytest.mark.parametrize(
    ("orientation", "normal"),
    [
        ((1, 0, 0, 0, 1, 0), (0, 0, 1)),
        ((1, 0, 0, 0, 0, -1), (0, 1, 0)),
        ((0, 1, 0, 0, 0, -1), (-1, 0, 0)),
        ((0.9, 0, 0, 0, 0.9, 0), (0, 0, 1)),
        ((1, 0, 0, 0, 0.8, 0.6), (0, -0.6, 0.8)),
    ],
)
def test_the_normal_is_row_cross_column_of_unit_length(orientation: tuple[float, ...], normal: tuple[float, ...]) -> None:
    np.testing.assert_allclose(slice_normal(orientation), normal, atol=1e-12)  # type: ignore[arg-type]


@given(st.tuples(*[st.floats(-180, 180)] * 3), st.tuples(*[st.floats(-500, 500)] * 3))
def test_rotations_and_shifts_are_rigid_and_mirrors_and_scales_are_not(turn: tuple[float, ...], shift: tuple[float, ...]) -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    matrix[:3, 3] = shift
    assert is_rigid(matrix)
    assert not is_rigid(matrix @ np.diag([-1.0, 1.0, 1.0, 1.0]))
    assert not is_rigid(matrix @ np.diag([1.0, 1.0, 1.01, 1.0]))


@pytest.mark.parametrize(("stretch", "rigid"), [(1 + 3e-5, True), (1 - 3e-5, True), (1 + 8e-5, False), (1 - 8e-5, False)])
def test_rounding_is_no_stretch(stretch: float, rigid: bool) -> None:
    """The tolerance of 1e-4 applies to the squared length, so to a stretch of 5e-5."""
    assert is_rigid(np.diag([1.0, stretch, 1.0, 1.0])) is rigid


def test_a_shear_is_not_rigid() -> None:
    sheared = np.eye(4)
    sheared[0, 1] = 0.01
    assert not is_rigid(sheared)
    assert is_rigid(sheared, tolerance=0.02)
