from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from corewatch.findings import Side
from corewatch.geometry import NETWORK_SHAPE, NETWORK_TO_RAS
from phantom.head import Blueprint, HeadSpec
from phantom.training import aligned_sample

SPEC = HeadSpec(7, 60.0, Side.RIGHT)


def test_aligned_sample_looks_like_an_aligned_head() -> None:
    sample = aligned_sample(3, SPEC)
    assert sample.hu.shape == NETWORK_SHAPE
    assert sample.hu.dtype == np.uint8
    assert (sample.core_ml, sample.side) == (60.0, Side.RIGHT)
    air, saturated, brain = sample.hu == 0, sample.hu == 100, (sample.hu > 20) & (sample.hu < 60)
    assert 0.15 < air.mean() < 0.55
    assert 0.08 < saturated.mean() < 0.40
    assert 0.30 < brain.mean() < 0.70


@pytest.mark.slow
def test_aligned_sample_depends_on_its_seed_alone() -> None:
    first, again, other = aligned_sample(21), aligned_sample(21), aligned_sample(22)
    assert np.array_equal(first.hu, again.hu)
    assert np.array_equal(first.core_mask, again.core_mask)
    assert not np.array_equal(first.hu, other.hu)


@pytest.mark.slow
def test_misalignment_and_noise_can_be_switched_off() -> None:
    painted, core = Blueprint.of(SPEC).on_grid(NETWORK_SHAPE, NETWORK_TO_RAS)
    inner = binary_erosion((painted > 20) & (painted < 55), iterations=3)
    perfect = aligned_sample(1, SPEC, residual=0.0, noise_hu=0.0)
    assert np.array_equal(perfect.core_mask, core)
    assert np.abs(perfect.hu[inner] - painted[inner]).mean() < 0.6

    noisy = aligned_sample(1, SPEC, residual=0.0, noise_hu=5.0)
    noise = noisy.hu[inner].astype(float) - perfect.hu[inner]
    assert noise.mean() == pytest.approx(0, abs=0.1)
    assert noise.std() == pytest.approx(5, abs=0.4)

    moved = aligned_sample(1, SPEC, noise_hu=0.0)
    shift = np.argwhere(moved.core_mask).mean(axis=0) - np.argwhere(core).mean(axis=0)
    assert 0.05 < np.linalg.norm(shift) < 6.0
    assert moved.core_ml == perfect.core_ml


@pytest.mark.slow
@pytest.mark.parametrize(("core_ml", "side"), [(5.0, Side.LEFT), (21.5, Side.RIGHT), (150.0, Side.LEFT)])
def test_core_volume_and_side_are_as_asked(core_ml: float, side: Side) -> None:
    sample = aligned_sample(round(core_ml), HeadSpec(31, core_ml, side))
    assert sample.core_ml == pytest.approx(core_ml, abs=0.001)
    half = sample.core_mask[73:] if side is Side.LEFT else sample.core_mask[:73]
    assert np.count_nonzero(half) == np.count_nonzero(sample.core_mask)


@pytest.mark.slow
def test_healthy_head_is_nearly_symmetric_and_without_core() -> None:
    sample = aligned_sample(5, HeadSpec(5), residual=0.0, noise_hu=0.0)
    assert (sample.core_ml, sample.side, sample.core_mask.any()) == (0.0, Side.NONE, False)
    left, right = sample.hu[73:].astype(float), sample.hu[:73][::-1].astype(float)
    brain = (left > 20) & (left < 55) & (right > 20) & (right < 55)
    assert abs((left - right)[brain].mean()) < 1.0
