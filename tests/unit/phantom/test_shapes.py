from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phantom.shapes import Canvas, Field, cylinder, ellipsoid, grid, smooth_minimum, tube, union

coordinate = st.floats(-40, 40, width=32)


def at(x: float, y: float, z: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.array([x], np.float32), np.array([y], np.float32), np.array([z], np.float32)


@given(coordinate, coordinate, coordinate)
def test_sphere_distance_is_exact(x: float, y: float, z: float) -> None:
    distance = ellipsoid((1, 2, 3), (10, 10, 10))(*at(x, y, z))[0]
    assert distance == pytest.approx(np.sqrt((x - 1) ** 2 + (y - 2) ** 2 + (z - 3) ** 2) - 10, abs=0.05)


@given(coordinate, coordinate, coordinate)
def test_ellipsoid_is_negative_inside_only(x: float, y: float, z: float) -> None:
    level = (x / 20) ** 2 + (y / 10) ** 2 + (z / 5) ** 2
    distance = ellipsoid((0, 0, 0), (20, 10, 5))(*at(x, y, z))[0]
    if abs(level - 1) > 0.01:
        assert (distance < 0) == (level < 1)


@given(coordinate, coordinate, coordinate)
def test_tube_distance_to_its_nearest_segment(x: float, y: float, z: float) -> None:
    distance = tube([(0, 0, -10), (0, 0, 10), (0, 20, 10)], 2.0)(*at(x, y, z))[0]
    t = np.linspace(0, 1, 2001)[:, None]
    line = np.concatenate([[0, 0, -10] + t * [0, 0, 20], [0, 0, 10] + t * [0, 20, 0]])
    assert distance == pytest.approx(np.linalg.norm(line - [x, y, z], axis=1).min() - 2, abs=0.02)


def test_a_tube_needs_two_points() -> None:
    with pytest.raises(ValueError, match="two points"):
        tube([(0, 0, 0)], 1.0)(*at(0, 0, 0))


def test_cylinder_ends_at_its_top() -> None:
    shape = cylinder((0, 0), (10, 10), top=0)
    assert shape(*at(0, 0, -50))[0] < 0
    assert shape(*at(0, 0, 5))[0] == pytest.approx(5)
    assert shape(*at(13, 0, -50))[0] == pytest.approx(3)


@given(st.floats(-20, 20), st.floats(-20, 20), st.floats(0.5, 15))
def test_smooth_minimum_rounds_only_near_the_joint(a: float, b: float, blend: float) -> None:
    result = smooth_minimum(np.array([a], np.float32), np.array([b], np.float32), blend)[0]
    assert min(a, b) - blend / 4 - 1e-4 <= result <= min(a, b) + 1e-4
    if abs(a - b) > blend:
        assert result == pytest.approx(min(a, b), abs=1e-4)


def test_union_is_inside_where_one_part_is() -> None:
    shape = union(ellipsoid((-10, 0, 0), (5, 5, 5)), ellipsoid((10, 0, 0), (5, 5, 5)))
    assert shape(*at(-10, 0, 0))[0] < 0
    assert shape(*at(10, 0, 0))[0] < 0
    assert shape(*at(0, 0, 0))[0] > 0


@given(st.floats(-9, 9), st.floats(-9, 9), st.floats(-9, 9))
def test_field_interpolates_linear_functions_exactly(x: float, y: float, z: float) -> None:
    field = Field.sample(lambda a, b, c: 2 * a - b + 0.5 * c + 3, (-10, -10, -10), (10, 10, 10), 2.0)
    assert field.at(np.array([[x], [y], [z]], np.float32))[0] == pytest.approx(2 * x - y + 0.5 * z + 3, abs=1e-3)
    assert field.top == 10


def test_canvas_draws_the_volume_of_the_body_on_both_sides() -> None:
    x, y, z = grid((-20, -10, -10), (20, 10, 10))
    canvas = Canvas(np.zeros(np.broadcast_shapes(x.shape, y.shape, z.shape), np.float32), (-20, -10, -10))
    canvas.draw(ellipsoid((11, 0, 0), (6, 6, 6)), (3, -8, -8), (19, 8, 8), 100.0, mirrored=True)
    assert np.array_equal(canvas.hu, canvas.hu[::-1])
    assert canvas.hu.sum() / 100 == pytest.approx(2 * 4 / 3 * np.pi * 6**3, rel=0.02)
    assert canvas.hu[20 + 11, 10, 10] == 100
    assert canvas.hu[20, 10, 10] == 0
