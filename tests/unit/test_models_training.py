"""Training: labels lie on the encoder's cells, heads come evenly, and what is written is what was trained."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from corewatch.findings import Side
from corewatch.geometry import MIDLINE_INDEX, NETWORK_SHAPE
from phantom.training import AlignedSample
from worker.models.hemispheres import HEMISPHERE_SHAPE
from worker.training.evaluate import Outcome, figures
from worker.training.heads import HeadStore, core_share


def test_the_share_of_core_lies_in_the_cell_of_the_core_on_either_side() -> None:
    left, right = np.zeros(NETWORK_SHAPE, bool), np.zeros(NETWORK_SHAPE, bool)
    left[MIDLINE_INDEX + 16 : MIDLINE_INDEX + 24, 40:48, 64:72] = True  # cell (2, 5, 8), whole
    right[MIDLINE_INDEX - 24 : MIDLINE_INDEX - 16, 40:48, 64:68] = True  # the same cell, half

    for mask, share in ((left, 1.0), (right, 0.5), (left | right, 1.0)):
        shares = core_share(mask)
        assert shares.shape == (10, 23, 17)
        assert shares[2, 5, 8] == share
        assert np.count_nonzero(shares) == 1


def test_the_shares_add_up_to_the_volume() -> None:
    mask = np.zeros(NETWORK_SHAPE, bool)
    mask[80:101, 33:70, 21:50] = True

    assert core_share(mask).sum() * 8**3 == pytest.approx(mask.sum())


def test_a_kept_head_comes_back_as_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    made = AlignedSample(rng.integers(0, 101, NETWORK_SHAPE, dtype=np.uint8), 12.5, Side.RIGHT, rng.random(NETWORK_SHAPE) < 0.01)
    calls: list[int] = []
    monkeypatch.setattr("worker.training.heads.aligned_sample", lambda seed: calls.append(seed) or made)
    store = HeadStore(tmp_path)

    for _ in range(2):
        kept = store.head(3)
        np.testing.assert_array_equal(kept.hu, made.hu)
        np.testing.assert_array_equal(kept.core_mask, made.core_mask)
        assert (kept.core_ml, kept.side) == (12.5, Side.RIGHT)
    assert calls == [3]


def an_outcome(true_ml: float, core_ml: float, *, right_side: bool = True, within: float = 0.5) -> Outcome:
    true_side = Side.LEFT if true_ml else Side.NONE
    side = true_side if right_side else Side.RIGHT
    return Outcome(0, true_ml, true_side, core_ml, side, 0.9, core_ml >= 20, within, within > 0)


def test_the_figures_count_each_head_where_it_belongs() -> None:
    result = figures(
        [
            an_outcome(0, 0, within=0),
            an_outcome(0, 25, within=0),
            an_outcome(10, 8, within=0),
            an_outcome(30, 32),
            an_outcome(60, 18, right_side=False, within=1.0),
        ]
    )

    assert (result.heads, result.without_core, result.with_core, result.large) == (5, 2, 3, 2)
    assert (result.false_alerts, result.large_alerted, result.large_side_right) == (0.5, 0.5, 0.5)
    assert result.map_touches_core == pytest.approx(2 / 3)
    assert result.map_in_core_mean == pytest.approx(0.5)
    assert result.mean_absolute_error_ml == pytest.approx((0 + 25 + 2 + 2 + 42) / 5)


@pytest.mark.slow
def test_every_head_comes_once_before_any_comes_again() -> None:
    from worker.training.phantom_demo import Plan

    plan = Plan(heads=7, steps=21, batch=4, learning_rate=1e-3, seed=5)

    order = np.concatenate([plan.chosen(step) for step in range(21)])
    for start in range(0, 84, 7):
        assert Counter(order[start : start + 7]) == Counter(range(7))
    np.testing.assert_array_equal(plan.chosen(3), Plan(7, 21, 4, 1e-3, 5).chosen(3))


@pytest.mark.slow
def test_the_trained_graph_is_the_one_that_is_used(tmp_path: Path) -> None:
    import tensorflow as tf

    from worker.models.deepsymnet import DeepSymNet
    from worker.models.weights import read_weights
    from worker.training.network import TrainableNetwork
    from worker.training.phantom_demo import publish

    pair = np.random.default_rng(1).random((2, *HEMISPHERE_SHAPE), np.float32)
    network = TrainableNetwork(seed=1)
    network.calibrate_encoder(pair[np.newaxis])
    encoded = network.encoded(pair)[np.newaxis]
    network.calibrate_decoder(encoded)

    _, estimate, on_core = network.losses(tf.constant(encoded), tf.constant([30.0]), tf.zeros((1, 10, 23, 17)))
    publish(network.arrays(), tmp_path / "phantom-demo")
    used = DeepSymNet(read_weights(tmp_path / "phantom-demo" / "weights.h5")).volumes(pair[np.newaxis])

    np.testing.assert_allclose(used, estimate, rtol=1e-3, atol=1e-3)
    assert float(on_core[0]) == 0
