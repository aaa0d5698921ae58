from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from corewatch.findings import Side
from corewatch.geometry import MIDLINE_INDEX, NETWORK_SHAPE, NETWORK_TO_RAS, apply
from phantom.head import Blueprint, HeadSpec
from phantom.infarct import CORE_ML_RANGE, core_mask, draw_infarct
from phantom.skull_and_neck import surroundings
from phantom.tissue_maps import TEMPLATE_ORIGIN, tissue_maps
from phantom.training import random_spec
from phantom.variation import Variation

SPEC = HeadSpec(7, 60.0, Side.RIGHT)


@pytest.fixture(scope="module")
def painted() -> tuple[np.ndarray, np.ndarray]:
    """HU without noise and core of one head on the network's grid."""
    return Blueprint.of(SPEC).on_grid(NETWORK_SHAPE, NETWORK_TO_RAS)


def voxel(ras: tuple[float, float, float]) -> np.ndarray:
    """Network voxel of a template point in the head of `SPEC`, not rounded."""
    there: np.ndarray = Variation(SPEC.seed).from_template(np.array([ras]))
    return apply(np.linalg.inv(NETWORK_TO_RAS), there)[0]


def around(hu: np.ndarray, ras: tuple[float, float, float], reach: int = 2) -> np.ndarray:
    """Values on a cube of 1 mm steps about a template point, wherever the grid's own voxels lie."""
    steps = np.mgrid[3 * (slice(-reach, reach + 1),)].reshape(3, -1)
    values: np.ndarray = map_coordinates(hu, steps + voxel(ras)[:, None], order=1)
    return values


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"seed": -1}, "negative"),
        ({"seed": 1, "core_ml": 20.0}, "exactly where"),
        ({"seed": 1, "side": Side.LEFT}, "exactly where"),
        ({"seed": 1, "core_ml": 400.0, "side": Side.LEFT}, "not 400"),
        ({"seed": 1, "core_ml": 1.0, "side": Side.LEFT}, "not 1"),
    ],
)
def test_an_impossible_head_is_refused(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HeadSpec(**keywords)


def test_template_is_symmetric_and_where_it_is_expected() -> None:
    maps = tissue_maps()
    assert np.array_equal(maps.grey, maps.grey[::-1])
    assert TEMPLATE_ORIGIN[0] == -(maps.grey.shape[0] - 1) / 2  # so that voxel reflection is x -> -x


def test_surroundings_are_symmetric() -> None:
    fields = surroundings()
    for values in (fields.cavity.values, fields.face.values, fields.face_hu.values):
        difference = np.abs(values.astype(np.float32) - values[::-1])
        assert np.quantile(difference, 0.999) <= 2.0


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_every_head_keeps_its_midsagittal_plane_at_zero(seed: int) -> None:
    variation = Variation(seed)
    y, z = np.meshgrid(np.linspace(-105, 70, 15), np.linspace(-60, 75, 12))
    plane = np.stack([np.zeros_like(y), y, z], axis=-1)
    assert np.abs(variation.to_template(plane)[..., 0]).max() < 1e-6


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_left_and_right_differ_a_little_and_sizes_stay_human(seed: int) -> None:
    variation = Variation(seed)
    points = np.random.default_rng(seed).uniform((8, -95, -40), (64, 60, 70), (300, 3))
    right = variation.to_template(points)
    left = variation.to_template(points * (-1, 1, 1)) * (-1, 1, 1)
    assert 0.05 < np.linalg.norm(right - left, axis=1).mean() < 3.0
    assert ((variation.scale >= 0.88) & (variation.scale <= 1.04)).all()


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_deformation_and_its_inverse_agree(seed: int) -> None:
    variation = Variation(seed)
    points = np.random.default_rng(seed).uniform((-65, -100, -50), (65, 65, 75), (200, 3))
    assert np.abs(variation.to_template(variation.from_template(points)) - points).max() < 0.1


@pytest.mark.parametrize(
    ("tissue", "ras", "lower", "upper"),
    [
        ("white matter", (-26.0, -20.0, 30.0), 24, 40),
        ("thalamus", (-12.0, -18.0, 8.0), 30, 50),
        ("lateral ventricle", (-8.0, 4.0, 16.0), 2, 20),
        ("basilar artery", (0.0, -16.0, -33.0), 120, 460),
        ("frontal bone", (-20.0, 77.0, 20.0), 300, 1800),
    ],
)
def test_tissues_have_the_density_of_ct_angiography(
    painted: tuple[np.ndarray, np.ndarray], tissue: str, ras: tuple[float, float, float], lower: float, upper: float
) -> None:
    values = around(painted[0], ras)
    found = values.max() if tissue in {"basilar artery", "frontal bone"} else np.median(values)
    assert lower <= found <= upper, tissue


def test_grey_matter_is_brighter_than_white(painted: tuple[np.ndarray, np.ndarray]) -> None:
    densities = Variation(SPEC.seed).densities
    assert 5 < densities.grey - densities.white < 15
    assert densities.fluid < densities.white < 40
    left = painted[0][MIDLINE_INDEX + 8 :, 40:140, 60:100]
    brain = left[(left > 20) & (left < 55)]
    assert np.quantile(brain, 0.9) - np.quantile(brain, 0.1) > 6


def test_air_lies_outside_and_bone_all_around(painted: tuple[np.ndarray, np.ndarray]) -> None:
    hu = painted[0]
    assert hu[0, 0, -1] == hu[-1, -1, -1] == -1000
    i, j, k = np.rint(voxel((0.0, -18.0, 30.0))).astype(int).tolist()
    for ray in (hu[i, j:, k], hu[i, :j, k], hu[i, j, k:]):
        assert ray.max() > 600


def test_core_is_dark_and_on_its_side(painted: tuple[np.ndarray, np.ndarray]) -> None:
    hu, core = painted
    assert np.count_nonzero(core) == 60_000
    assert not core[MIDLINE_INDEX:].any()  # i < 73 is the patient's right
    other = core[::-1]
    in_core, opposite = np.median(hu[core]), np.median(hu[other])
    depth = draw_infarct(SPEC.seed, SPEC.side).depth_hu
    assert opposite - in_core == pytest.approx(depth, abs=4.0)


def test_occluded_artery_does_not_fill(painted: tuple[np.ndarray, np.ndarray]) -> None:
    right, left = around(painted[0], (33.0, 3.0, -17.0)).max(), around(painted[0], (-33.0, 3.0, -17.0)).max()
    assert left > 150
    assert right < 80


@given(volume_ml=st.floats(*CORE_ML_RANGE), side=st.sampled_from([Side.LEFT, Side.RIGHT]), seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_core_takes_exactly_its_volume_in_one_hemisphere(volume_ml: float, side: Side, seed: int) -> None:
    step = 3.0
    maps = tissue_maps()
    axes = [slice(None, None, 3)] * 3
    tissue = (maps.grey[*axes].astype(np.float32) + maps.white[*axes]) / 255
    index = np.indices(tissue.shape, np.float32) * np.float32(step)
    template = index + np.array(TEMPLATE_ORIGIN, np.float32)[:, None, None, None]
    speckle = np.random.default_rng(seed).standard_normal(tissue.shape).astype(np.float32)
    voxels = round(volume_ml * 1000 / step**3)

    mask = core_mask(draw_infarct(seed, side), voxels, template, tissue, speckle)

    assert np.count_nonzero(mask) == voxels
    assert (tissue[mask] > 0.6).all()
    x = template[0][mask]
    assert (x > 0).all() if side is Side.RIGHT else (x < 0).all()
    # the middle cerebral artery supplies neither cerebellum nor occipital pole
    assert (template[1][mask] > -95).mean() > 0.99
    assert (template[2][mask] > -40).mean() > 0.99


def test_core_larger_than_the_hemisphere_is_refused() -> None:
    tissue = np.ones((8, 8, 8), np.float32)
    template = np.indices(tissue.shape, np.float32) * 4
    with pytest.raises(ValueError, match="does not fit"):
        core_mask(draw_infarct(1, Side.RIGHT), 10_000, template, tissue, np.zeros_like(tissue))


def test_random_specs_cover_both_sides_all_volumes_and_healthy_heads() -> None:
    specs = [random_spec(seed) for seed in range(400)]
    healthy = [s for s in specs if s.side is Side.NONE]
    assert 0.25 < len(healthy) / 400 < 0.45
    sick = [s for s in specs if s.side is not Side.NONE]
    assert 0.4 < sum(s.side is Side.LEFT for s in sick) / len(sick) < 0.6
    assert min(s.core_ml for s in sick) < 8
    assert max(s.core_ml for s in sick) > 120
