"""Ways to compute the network, side by side: ``python -m benchmarks.detector_variants --weights FILE [--head FILE] [--rounds N]``.

Each variant computes volume and gradient of one head; they take turns, round after round, so that a busy machine slows all alike.
What counts is the ratio to the variant that corewatch uses (`as used`), the shift of the volume, and how far the gradient is off.
oneDNN decides its instruction set once per process, so each set has a process of its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from worker.models.hemispheres import split
from worker.models.processor import ISA_VARIABLE, widest_useful_isa

ORDERS = {"x y z": (0, 1, 2), "y x z": (1, 0, 2), "y z x": (1, 2, 0), "z y x": (2, 1, 0), "z x y": (2, 0, 1), "x z y": (0, 2, 1)}
"""Axes: x away from the midline, y anterior, z superior; the last one is contiguous."""

USED = "y x z"


def variants(weights: Path, xla: bool) -> dict[str, Callable[[Any], tuple[Any, Any]]]:
    """Every variant: pairs (1, 2, 73, 182, 133) -> volume (1,) and gradient (2, 10, 23, 17, filters)."""
    import tensorflow as tf

    from worker.models.deepsymnet import decode, encode
    from worker.models.weights import read_weights

    arrays = read_weights(weights).arrays

    def build(order: tuple[int, ...], *, together: bool = True, kind: Any = tf.float32, jit: bool = False) -> Any:
        turned = {n: np.ascontiguousarray(a.transpose(*order, 3, 4)) if a.ndim == 5 else a for n, a in arrays.items()}

        def run(pairs: Any) -> tuple[Any, Any]:
            exact: Mapping[str, Any] = {name: tf.constant(array) for name, array in turned.items()}
            rounded = exact if kind == tf.float32 else {name: tf.cast(value, kind) for name, value in exact.items()}
            x = tf.cast(tf.transpose(pairs, [0, 1, *(2 + axis for axis in order)]), kind)[..., tf.newaxis]
            if together:
                both = tf.split(encode(tf.concat([x[:, 0], x[:, 1]], axis=0), rounded), 2)
            else:
                both = [encode(x[:, side], rounded) for side in (0, 1)]
            both = [tf.cast(side, tf.float32) for side in both]
            with tf.GradientTape() as tape:
                tape.watch(both)
                volumes = decode(*both, exact)
            back = [0, *(1 + int(axis) for axis in np.argsort(order)), 4]
            return volumes, tf.transpose(tf.concat(tape.gradient(volumes, both), axis=0), back)

        return tf.function(run, jit_compile=jit)

    made = {"order " + name: build(order) for name, order in ORDERS.items() if name != USED}
    made |= {
        "as used": build(ORDERS[USED]),
        "hemispheres one after the other": build(ORDERS[USED], together=False),
        "encoder in bfloat16": build(ORDERS[USED], kind=tf.bfloat16),
    }
    return made | ({"XLA": build(ORDERS[USED], jit=True)} if xla else {})


def measure(isa: str | None, weights: Path, head: Path | None, rounds: int, xla: bool) -> dict[str, dict[str, float]]:
    """All variants with one instruction set, in this process."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    if isa is not None:
        os.environ[ISA_VARIABLE] = isa
    import tensorflow as tf

    pair = tf.constant(split(_head(head))[np.newaxis])
    made = variants(weights, xla)
    answers = {}
    for name, run in list(made.items()):
        try:
            answers[name] = [part.numpy() for part in run(pair)]
        except tf.errors.OpError as error:  # bfloat16 with an instruction set that has none
            print(json.dumps({"isa": isa, "variant": name, "cannot be computed": type(error).__name__}), flush=True)
            del made[name]
    wall: dict[str, list[float]] = {name: [] for name in made}
    cpu: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(rounds):
        for name, run in made.items():
            started, busy = time.perf_counter(), time.process_time()
            run(pair)
            wall[name].append(time.perf_counter() - started)
            cpu[name].append(time.process_time() - busy)
    volume, gradient = answers["as used"]
    return {
        name: {
            "fastest_s": round(min(wall[name]), 3),
            "cpu_s": round(statistics.median(cpu[name]), 3),
            "volume_off_ml": round(float(np.abs(answers[name][0] - volume).max()), 5),
            "gradient_off_percent": round(float(np.linalg.norm(answers[name][1] - gradient) / np.linalg.norm(gradient)) * 100, 3),
        }
        for name in made
    }


def _head(path: Path | None) -> np.ndarray[Any, np.dtype[np.uint8]]:
    if path is not None:
        return np.asarray(nib.load(path).dataobj, np.uint8)
    from phantom.training import aligned_sample

    return aligned_sample(1).hu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path("worker/models/builtin/phantom-demo/weights.h5"))
    parser.add_argument("--head", type=Path, help="aligned NIfTI on the network's grid; default: a synthetic head")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--isa", action="append", help="oneDNN instruction set; default: its own choice, then AVX2")
    parser.add_argument("--xla", action="store_true", help="XLA too; it takes minutes to compile and to run")
    given = parser.parse_args()
    print(json.dumps({"instruction set that corewatch chooses here": widest_useful_isa(Path("/proc/cpuinfo").read_text())}))
    spawn = multiprocessing.get_context("spawn")
    for isa in given.isa or [None, "AVX2"]:
        with spawn.Pool(1) as pool:
            found = pool.apply(measure, (isa, given.weights, given.head, given.rounds, given.xla))
        for name, figures in found.items():
            ratio = round(figures["cpu_s"] / found["as used"]["cpu_s"], 2)
            print(json.dumps({"isa": isa or "oneDNN's choice", "variant": name, **figures, "ratio": ratio}), flush=True)


if __name__ == "__main__":
    main()
