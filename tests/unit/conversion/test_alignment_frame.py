"""A head whose right place is known comes to lie there, from any pose, and the way back is the inverse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from conversion.alignment import align, check_quality, component_scores, map_to_scanner
from corewatch.errors import NotAnalysed
from corewatch.geometry import NETWORK_SHAPE, Matrix, is_rigid
from corewatch.reasons import Reason
from corewatch.volumes import AlignmentQuality, ScannerVolume


def test_air_alone_is_not_a_head() -> None:
    volume = ScannerVolume(np.full((64, 64, 40), -1000, np.int16), np.diag([3.0, 3.0, 4.0, 1.0]))
    with pytest.raises(NotAnalysed) as caught:
        align(volume)
    assert caught.value.reason is Reason.NOT_A_HEAD


def test_water_without_a_skull_is_not_a_head() -> None:
    grid = np.indices((80, 80, 60)) - np.array([40, 40, 30])[:, None, None, None]
    ball = np.where((grid**2).sum(axis=0) < 25**2, 40, -1000).astype(np.int16)
    try:
        quality = align(ScannerVolume(ball, np.diag([3.0, 3.0, 3.0, 1.0]))).quality
    except NotAnalysed as error:
        assert error.reason is Reason.NOT_A_HEAD
    else:
        assert quality is not None
        with pytest.raises(NotAnalysed):
            check_quality(quality)


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"coverage": 0.4, "enclosed": 0.9}, Reason.TOO_LITTLE_COVERAGE),
        ({"coverage": 0.95, "enclosed": 0.1}, Reason.NOT_A_HEAD),
        ({"coverage": 0.95, "enclosed": 0.9}, Reason.ALIGNMENT_NOT_TRUSTED),
        ({"coverage": 0.95, "scale": 0.79, "scale_r": 0.79}, Reason.ALIGNMENT_NOT_TRUSTED),
        ({"coverage": 0.95, "scale": 1.15, "scale_r": 1.15}, Reason.ALIGNMENT_NOT_TRUSTED),
        ({"coverage": 0.95, "shape": 1.31, "scale_r": 0.9}, Reason.ALIGNMENT_NOT_TRUSTED),
    ],
)
def test_a_low_score_is_refused_for_its_cause(parts: dict[str, float], reason: Reason) -> None:
    quality = AlignmentQuality(0.1, 0.2, 0.3, parts)
    with pytest.raises(NotAnalysed) as caught:
        check_quality(quality, 0.5)
    assert caught.value.reason is reason
    assert caught.value.detail
    assert ("header" in caught.value.detail) == ("scale_r" in parts)
    check_quality(quality, 0.1)


@pytest.mark.parametrize(
    ("scale", "worth_of_it"), [(0.75, 0), (0.805, 0.5), (0.83, 1), (0.95, 1), (1.12, 1), (1.14, 0.5), (1.2, 0)]
)
def test_a_head_is_neither_a_doll_s_nor_a_giant_s(scale: float, worth_of_it: float) -> None:
    assert component_scores(AlignmentQuality(1.0, 0, 0, {"scale": scale}))["scale"] == pytest.approx(worth_of_it)


def _placement(angles: tuple[float, float, float], shift: tuple[float, float, float]) -> Matrix:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.diag([1.0, -1.0, 1.0])
    matrix[:3, 3] = np.array([72.0, 90.0, 64.0]) + shift
    return matrix


_angle = st.floats(-30, 30)
_shift = st.floats(-20, 20)


@settings(max_examples=10, deadline=None)
@given(st.tuples(_angle, _angle, _angle), st.tuples(_shift, _shift, _shift), st.sampled_from([1.0, 2.0, 3.0]), st.booleans())
def test_a_map_keeps_its_volume_and_its_place_on_the_scanners_grid(
    angles: tuple[float, float, float], shift: tuple[float, float, float], dz: float, descending: bool
) -> None:
    distance = np.sqrt(sum((n - c) ** 2 for n, c in zip(np.indices(NETWORK_SHAPE), (54.5, 97.0, 64.5), strict=True)))
    core = np.clip(100 - 3 * (distance - 5), 0, 100).astype(np.uint8)
    lps_to_voxel = _placement(angles, shift)
    spacing = np.array([1.5, 1.5, -dz if descending else dz])
    shape = (160, 160, int(240 / dz))
    voxel_to_lps = np.diag([*spacing, 1.0])
    voxel_to_lps[:3, 3] = -spacing * (np.array(shape) - 1) / 2
    native = map_to_scanner(core, lps_to_voxel, shape, voxel_to_lps)
    assert native.shape == shape
    assert native.dtype == np.uint8
    expected_ml = (core > 50).sum() / 1000
    assert (native > 50).sum() * 2.25 * dz / 1000 == pytest.approx(expected_ml, rel=0.05)
    centre = np.array([np.mean(n) for n in np.nonzero(native > 50)])
    back = lps_to_voxel @ voxel_to_lps @ np.r_[centre, 1.0]
    np.testing.assert_allclose(back[:3], [54.5, 97.0, 64.5], atol=0.6)


def test_an_empty_map_stays_empty() -> None:
    native = map_to_scanner(np.zeros(NETWORK_SHAPE, np.uint8), np.eye(4), (10, 11, 12), np.eye(4))
    assert native.shape == (10, 11, 12)
    assert not native.any()


def test_placements_of_the_test_are_rigid() -> None:
    flip = np.diag([1.0, -1.0, 1.0, 1.0])
    assert is_rigid(_placement((5, 6, 7), (1, 2, 3)) @ flip)
