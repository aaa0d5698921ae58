"""Train the demonstration model on synthetic heads: ``python -m worker.training.phantom_demo --work DIR --out DIR``.

Seeded and resumable: in the same folder it continues where it stopped, with the same heads in the same order. The folder keeps its
plan; another plan is refused. Takes about twelve minutes on one processor core, most of them to generate the heads.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from corewatch.errors import ConfigurationError
from foundation.durable import replacing, write_durably
from worker.models.deepsymnet import Tensor
from worker.models.hemispheres import split
from worker.models.manifest import InputFrame, ModelManifest, Thresholds, sha256_of, write_manifest
from worker.models.weights import write_weights
from worker.training.heads import HeadStore, core_share
from worker.training.network import TrainableNetwork

CALIBRATION_HEADS: Final = 8
CHECKPOINT_EVERY: Final = 100
WARM_UP_STEPS: Final = 50
NAME: Final = "phantom-demo"
VERSION: Final = "1.2"
WEIGHTS_NAME: Final = "weights.h5"
PLAN_NAME: Final = "plan.json"
INTENDED_USE: Final = "Demonstration and self-test only. Trained on synthetic heads: must not be used on patients."
ASYMMETRY_SD_HU: Final = 3.5
"""Measured with this model: root mean square difference between the sides within the map, in 74 held-back heads without a core."""

WEIGHT_DECAY: Final = 1e-4
AVERAGING: Final = 0.95
"""Weight of the earlier steps in the moving average of the error that is shown."""


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """Parameters of a training."""

    heads: int
    steps: int
    batch: int
    learning_rate: float
    seed: int

    def chosen(self, step: int) -> NDArray[np.int64]:
        """Indices of the heads in the batch of a step; each head is used once before any is used again."""
        rounds, indices = np.divmod(np.arange(step * self.batch, (step + 1) * self.batch), self.heads)
        orders = {int(r): np.random.default_rng([self.seed, 1, r]).permutation(self.heads) for r in np.unique(rounds)}
        return np.array([orders[int(r)][i] for r, i in zip(rounds, indices, strict=True)])

    def rate(self, step: int) -> float:
        """Learning rate of a step: linear rise, then half a cosine down to 0."""
        if step < WARM_UP_STEPS:
            return self.learning_rate * (step + 1) / WARM_UP_STEPS
        return self.learning_rate * 0.5 * (1 + float(np.cos(np.pi * (step - WARM_UP_STEPS) / (self.steps - WARM_UP_STEPS))))


@dataclass(frozen=True, slots=True, eq=False)
class EncodedHeads:
    """Training data of the decoder: the encoder's output for all heads.

    Attributes
    ----------
    encoded
        float32, (n, 2, 10, 23, 17, filters).
    core_ml
        float32, (n,), mL.
    core_share
        float32, (n, 10, 23, 17), share of each cell that is core.
    """

    encoded: NDArray[np.float32]
    core_ml: NDArray[np.float32]
    core_share: NDArray[np.float32]


def encode_heads(network: TrainableNetwork, store: HeadStore, plan: TrainingPlan, work: Path, progress: Progress) -> EncodedHeads:
    """Run the encoder on every head once; results that are in the folder are used again."""
    folder = work / "encoded"
    folder.mkdir(parents=True, exist_ok=True)
    network.calibrate_encoder(np.stack([split(store.head(seed).hu) for seed in range(min(CALIBRATION_HEADS, plan.heads))]))
    heads = []
    for seed in progress.track(range(plan.heads), description="encoding heads"):
        path = folder / f"{seed}.npz"
        if not path.exists():
            head = store.head(seed)
            with replacing(path) as file:
                shares = core_share(head.core_mask)
                np.savez(file, encoded=network.encoded(split(head.hu)), core_ml=np.float32(head.core_ml), core_share=shares)
        with np.load(path) as file:
            heads.append((file["encoded"], file["core_ml"], file["core_share"]))
    return EncodedHeads(*(np.stack(part) for part in zip(*heads, strict=True)))


def train(plan: TrainingPlan, work: Path) -> TrainableNetwork:
    """Train, or continue a training in a folder of the same plan (`save_plan`)."""
    network = TrainableNetwork(plan.seed)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        heads = encode_heads(network, HeadStore(work / "heads"), plan, work, progress)
        network.calibrate_decoder(heads.encoded)
        learn(plan, network, heads, work, progress)
    return network


def save_plan(plan: TrainingPlan, work: Path) -> None:
    """Write the plan to a new folder; a folder with another plan is refused, or two trainings would mix unnoticed.

    Raises
    ------
    ConfigurationError
        The folder holds the training of another plan.
    """
    path = work / PLAN_NAME
    ours = json.dumps(asdict(plan), indent=2) + "\n"
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        write_durably(path, ours.encode())
    elif path.read_text() != ours:
        raise ConfigurationError(f"{work} holds the training of another plan ({PLAN_NAME})", "choose another folder with --work")


def publish(weights: dict[str, NDArray[np.float32]], folder: Path) -> ModelManifest:
    """Write weights and manifest to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(folder / WEIGHTS_NAME, weights)
    manifest = ModelManifest(
        name=NAME,
        version=VERSION,
        weights=WEIGHTS_NAME,
        sha256=sha256_of(folder / WEIGHTS_NAME),
        adapter="deepsymnet",
        input=InputFrame(mask=None),  # trained on whole heads
        thresholds=Thresholds(asymmetry_sd_hu=ASYMMETRY_SD_HU),
        intended_use=INTENDED_USE,
        citation="Architecture: Giancardo et al., NeuroImage: Clinical 2023;37:103362.",
        licence="Apache-2.0",
        source="worker.training.phantom_demo",
    )
    write_manifest(folder, manifest)
    return manifest


def learn(plan: TrainingPlan, network: TrainableNetwork, heads: EncodedHeads, work: Path, progress: Progress) -> None:
    """Run the remaining steps, with a line in `log.csv` for each and a checkpoint every `CHECKPOINT_EVERY`."""
    optimizer = tf.keras.optimizers.AdamW(plan.learning_rate, weight_decay=WEIGHT_DECAY, beta_2=0.99, global_clipnorm=1.0)
    optimizer.build(network.learning)
    step = tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(weights=network.variables, probes=network.probes, optimizer=optimizer, step=step)
    manager = tf.train.CheckpointManager(checkpoint, str(work / "checkpoints"), max_to_keep=2)
    if manager.latest_checkpoint:
        checkpoint.restore(manager.latest_checkpoint).assert_consumed()

    def improve(encoded: Tensor, core_ml: Tensor, core_share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with tf.GradientTape() as tape:
            loss, estimates, on_core = network.losses(encoded, core_ml, core_share)
        optimizer.apply_gradients(zip(tape.gradient(loss, network.learning), network.learning, strict=True))
        return loss, estimates, on_core

    compiled = tf.function(improve)
    bar = progress.add_task("training", total=plan.steps, completed=int(step))
    off: float | None = None
    with (work / "log.csv").open("a") as log:
        while int(step) < plan.steps:
            chosen = plan.chosen(int(step))
            core_ml = heads.core_ml[chosen]
            optimizer.learning_rate.assign(plan.rate(int(step)))
            batch = (heads.encoded[chosen], core_ml, heads.core_share[chosen])
            loss, estimates, on_core = compiled(*(tf.constant(part) for part in batch))
            step.assign_add(1)
            error = float(np.abs(np.maximum(estimates, 0) - core_ml).mean())
            off = error if off is None else AVERAGING * off + (1 - AVERAGING) * error
            log.write(f"{int(step)},{float(loss):.4f},{error:.2f},{float(np.asarray(on_core)[core_ml > 0].mean()):.3f}\n")
            progress.update(bar, advance=1, description=f"training, mean error {off:.1f} mL")
            if int(step) % CHECKPOINT_EVERY == 0:
                manager.save()


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for heads and checkpoints; the same folder resumes")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model, for weights.h5 and manifest.json")
    parser.add_argument("--heads", type=int, default=340, help="different heads to train on")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    plan = TrainingPlan(given.heads, given.steps, given.batch, given.learning_rate, given.seed)
    try:
        save_plan(plan, given.work)
    except ConfigurationError as error:
        parser.error(str(error))
    tf.config.threading.set_intra_op_parallelism_threads(given.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    publish(train(plan, given.work).arrays(), given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
