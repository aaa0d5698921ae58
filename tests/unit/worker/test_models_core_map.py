"""The core map's steps on gradients made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from corewatch.errors import OperatorNeeded
from corewatch.findings import Side
from corewatch.geometry import MIDLINE_INDEX, NETWORK_SHAPE
from worker.models.core_map import core_map, enlarged, relevance
from worker.models.hemispheres import HEMISPHERE_SHAPE, LEFT, RIGHT, join, split

COARSE = (10, 23, 17)


@pytest.fixture
def gradients() -> NDArray[np.float32]:
    """Left hemisphere: one cell stands out in each of two channels."""
    g = np.zeros((2, *COARSE, 2), np.float32)
    g[LEFT, 4, 10, 8] = (2.0, 1.0)
    g[RIGHT] = -g[LEFT]
    return g


def dark(side: int) -> NDArray[np.float32]:
    hemispheres = np.full((2, *HEMISPHERE_SHAPE), 0.4, np.float32)
    hemispheres[side] = 0.3
    return hemispheres


def test_relevance_is_the_rectified_gradient_weighted_by_its_mean() -> None:
    gradient = np.array([1.0, -3.0, 2.0, 4.0], np.float32).reshape(2, 1, 1, 2)  # channels (1, 2) and (-3, 4)

    # Means per channel: 1.5 and 0.5. First voxel: (1 * 1.5 + 0 * 0.5) / 2; second: (2 * 1.5 + 4 * 0.5) / 2.
    np.testing.assert_allclose(relevance(gradient)[:, 0, 0], [0.75, 2.5])


def test_relevance_is_never_negative() -> None:
    gradient = np.array([1.0, -5.0], np.float32).reshape(2, 1, 1, 1)

    np.testing.assert_array_equal(relevance(gradient)[:, 0, 0], [0.0, 0.0])


@given(coarse=st.integers(1, 25), factor=st.integers(1, 9))
def test_enlargement_by_a_whole_factor_repeats(coarse: int, factor: int) -> None:
    values = np.arange(coarse, dtype=np.float64).reshape(coarse, 1, 1)

    np.testing.assert_array_equal(enlarged(values, (coarse * factor, 1, 1))[:, 0, 0], np.repeat(values, factor))


@given(coarse=st.integers(1, 25), fine=st.integers(1, 200))
def test_enlargement_is_its_own_mirror_image(coarse: int, fine: int) -> None:
    values = np.arange(coarse, dtype=np.float64).reshape(coarse, 1, 1)
    centres = (np.arange(fine) + 0.5) * coarse / fine
    clear = ~np.isclose(centres, np.rint(centres))  # a centre on the edge between two coarse voxels belongs to the upper one

    straight = enlarged(values, (fine, 1, 1))[:, 0, 0]
    mirrored = enlarged(values[::-1], (fine, 1, 1))[::-1, 0, 0]
    np.testing.assert_array_equal(straight[clear], mirrored[clear])


def test_the_map_goes_to_the_darker_side_not_to_the_side_of_the_gradient(gradients: NDArray[np.float32]) -> None:
    on_left, on_right = core_map(gradients, dark(LEFT)), core_map(gradients, dark(RIGHT))

    assert on_left.darker is Side.LEFT
    assert on_right.darker is Side.RIGHT
    assert on_left.voxels[MIDLINE_INDEX:].any()
    assert not on_left.voxels[:MIDLINE_INDEX].any()
    np.testing.assert_array_equal(on_right.voxels, on_left.voxels[::-1])
    assert on_left.difference_hu == pytest.approx(10.0, abs=0.01)


def test_the_map_lies_where_the_gradient_is(gradients: NDArray[np.float32]) -> None:
    result = core_map(gradients, dark(LEFT))

    assert result.voxels.shape == NETWORK_SHAPE
    assert result.voxels.dtype == np.uint8
    assert 50 < result.voxels.max() <= 100
    centre = np.argwhere(result.hemisphere > 50).mean(axis=0)
    expected = (np.array([4, 10, 8]) + 0.5) * np.array(HEMISPHERE_SHAPE) / np.array(COARSE) - 0.5
    np.testing.assert_allclose(centre, expected, atol=1.0)


def test_mirrored_inputs_give_the_mirrored_map(gradients: NDArray[np.float32]) -> None:
    straight = core_map(gradients, dark(LEFT))
    mirrored = core_map(gradients[::-1], dark(LEFT)[::-1])

    np.testing.assert_array_equal(mirrored.voxels, straight.voxels[::-1])
    assert mirrored.darker is Side.RIGHT


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_gradients_that_are_no_numbers_give_no_map(gradients: NDArray[np.float32], value: float) -> None:
    gradients[RIGHT, 0, 0, 0, 1] = value

    with pytest.raises(OperatorNeeded, match="no numbers"):
        core_map(gradients, dark(LEFT))


def test_no_gradient_gives_an_empty_map_without_a_side() -> None:
    result = core_map(np.zeros((2, *COARSE, 2), np.float32), dark(LEFT))

    assert not result.voxels.any()
    assert result.darker is Side.NONE
    assert result.difference_hu == 0


def test_equal_hemispheres_have_no_side(gradients: NDArray[np.float32]) -> None:
    result = core_map(gradients, np.full((2, *HEMISPHERE_SHAPE), 0.4, np.float32))

    assert result.darker is Side.NONE
    assert not result.voxels.any()
    assert result.hemisphere.any()


def test_split_puts_the_patients_left_first_and_both_midlines_at_index_0() -> None:
    hu = np.zeros(NETWORK_SHAPE, np.uint8)
    hu[MIDLINE_INDEX, 5, 6] = 70  # just left of the midline
    hu[MIDLINE_INDEX - 1, 5, 6] = 30  # just right of it
    hu[0, 1, 2] = 90  # outermost right

    left, right = split(hu)

    assert left[0, 5, 6] == pytest.approx(0.7, abs=1e-3)
    assert right[0, 5, 6] == pytest.approx(0.3, abs=1e-3)
    assert right[-1, 1, 2] == pytest.approx(0.9, abs=1e-3)


def test_inputs_are_rounded_through_half_precision() -> None:
    hu = np.full(NETWORK_SHAPE, 37, np.uint8)

    assert split(hu).dtype == np.float32
    assert split(hu)[0, 0, 0, 0] == np.float32(np.float16(0.37))


def test_join_undoes_split() -> None:
    hu = np.random.default_rng(0).integers(0, 101, NETWORK_SHAPE, dtype=np.uint8)

    np.testing.assert_array_equal(join(np.rint(split(hu) * 100).astype(np.uint8)), hu)
