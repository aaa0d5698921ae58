"""Training: labels lie on the encoder's cells, heads come evenly, and what is written is what was trained."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.progress import Progress

from corewatch.errors import ConfigurationError
from corewatch.findings import Side
from corewatch.geometry import MIDLINE_INDEX, NETWORK_SHAPE
from phantom.training import AlignedSample
from worker.models.core_map import CoreMap
from worker.models.detector import decide_side
from worker.models.hemispheres import HEMISPHERE_SHAPE
from worker.models.manifest import Thresholds
from worker.training.evaluate import HeadEvaluation, difference_hu, summarise
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


def an_outcome(true_ml: float, core_ml: float, *, right_side: bool = True, within: float = 0.5) -> HeadEvaluation:
    true_side = Side.LEFT if true_ml else Side.NONE
    side = true_side if right_side else Side.RIGHT
    return HeadEvaluation(0, true_ml, true_side, core_ml, side, 0.9, core_ml >= 20, within, within > 0, difference_hu=1 + core_ml)


def test_the_figures_count_each_head_where_it_belongs() -> None:
    result = summarise(
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
    assert result.asymmetry_sd_hu == pytest.approx(((1**2 + 26**2) / 2) ** 0.5)
    assert result.mean_absolute_error_ml == pytest.approx((0 + 25 + 2 + 2 + 42) / 5)


@pytest.mark.parametrize("hu", [0.0, 0.4, 3.0, 11.0])
def test_the_difference_is_read_back_from_the_confidence(hu: float) -> None:
    thresholds = Thresholds(asymmetry_sd_hu=2.5)
    found = CoreMap(np.zeros(NETWORK_SHAPE, np.uint8), np.zeros(HEMISPHERE_SHAPE, np.uint8), Side.LEFT, hu)

    assert difference_hu(decide_side(50.0, found, thresholds)[1], 2.5) == pytest.approx(hu, abs=1e-4)


@pytest.mark.slow
def test_every_head_comes_once_before_any_comes_again() -> None:
    from worker.training.phantom_demo import TrainingPlan

    plan = TrainingPlan(heads=7, steps=21, batch=4, learning_rate=1e-3, seed=5)

    order = np.concatenate([plan.chosen(step) for step in range(21)])
    for start in range(0, 84, 7):
        assert Counter(order[start : start + 7]) == Counter(range(7))
    np.testing.assert_array_equal(plan.chosen(3), TrainingPlan(7, 21, 4, 1e-3, 5).chosen(3))


@pytest.mark.slow
def test_a_folder_keeps_to_the_plan_that_it_was_begun_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from worker.training.phantom_demo import TrainingPlan, main, save_plan

    work = tmp_path / "work"
    plan = TrainingPlan(heads=7, steps=21, batch=4, learning_rate=1e-3, seed=5)
    for _ in range(2):
        save_plan(plan, work)
    for other in (replace(plan, seed=6), replace(plan, heads=8), replace(plan, steps=22)):
        with pytest.raises(ConfigurationError, match="another plan"):
            save_plan(other, work)
    with pytest.raises(SystemExit) as caught:
        main(["--work", str(work), "--out", str(tmp_path / "out"), "--seed", "6"])
    assert caught.value.code == 2
    assert "another plan" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


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


@pytest.mark.slow
def test_training_that_was_interrupted_ends_as_if_it_had_not_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from worker.training import phantom_demo
    from worker.training.phantom_demo import EncodedHeads, TrainableNetwork, TrainingPlan, learn

    rng = np.random.default_rng(7)
    made = EncodedHeads(
        rng.random((6, 2, 10, 23, 17, 6), np.float32),
        np.array([0, 10, 30, 0, 60, 90], np.float32),
        rng.random((6, 10, 23, 17), np.float32) * (np.arange(6) > 2).astype(np.float32)[:, None, None, None],
    )
    plan = TrainingPlan(heads=6, steps=6, batch=2, learning_rate=1e-3, seed=3)
    monkeypatch.setattr(phantom_demo, "CHECKPOINT_EVERY", 2)
    monkeypatch.setattr(phantom_demo, "WARM_UP_STEPS", 2)

    def trained(work: Path, stop_after: int | None = None) -> dict[str, NDArray[np.float32]]:
        work.mkdir(exist_ok=True)
        network = TrainableNetwork(plan.seed)
        network.calibrate_decoder(made.encoded)
        with Progress(disable=True) as progress, monkeypatch.context() as patch:
            if stop_after is not None:
                patch.setattr(progress, "update", PowerCut(stop_after))
            learn(plan, network, made, work, progress)
        return network.arrays()

    whole = trained(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "cut", stop_after=5)  # one step after the second checkpoint, which is done again
    resumed = trained(tmp_path / "cut")

    assert whole.keys() == resumed.keys()
    for name, values in whole.items():
        np.testing.assert_allclose(resumed[name], values, rtol=1e-5, atol=1e-6, err_msg=name)
    before = TrainableNetwork(plan.seed).arrays()
    assert any(np.abs(whole[name] - before[name]).max() > 1e-4 for name in whole if "dense" in name), "nothing was learned"


class PowerCut:
    """Ends the program at the n-th step."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, *_: object, **__: object) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
