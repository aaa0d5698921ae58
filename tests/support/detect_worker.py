"""The worker program with a network that is quick, and that hangs, dies, breaks or dawdles when a head asks for it.

`python -m tests.support.detect_worker CONFIG BROKER-URL`. Everything else is the program itself: Celery's prefork worker,
TensorFlow in its child, the ledger. The adapter is added from outside, as a site's own would be.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from config import load_settings
from config.logging import configure_logging
from corewatch import stage_limits
from corewatch.errors import ConfigurationError
from tests.support.net import wait_for
from worker.models import readiness
from worker.models.adapters import ADAPTERS, Device, Head, NetworkOutput
from worker.models.core_map import core_map
from worker.models.hemispheres import split
from worker.program import serve

HANGS = 77
"""A head whose first voxel has this value hangs the worker."""
DIES = 78
"""Such a head ends its process, as the kernel does where memory is short."""
BREAKS = 79
"""With such a head the device breaks: nothing can be computed in this process any more."""
DAWDLES = 80
"""Such a head is at work until the file is there that `DAWDLES_UNTIL` names in the environment."""
DAWDLES_UNTIL = "COREWATCH_TESTS_DAWDLES_UNTIL"

_STRIDE = 4


class QuickNetwork:
    """The difference of the sides in every fourth voxel; its weights are one number in a JSON file."""

    def __init__(self, gain: float) -> None:
        self._gain = gain
        self._broken = False

    @classmethod
    def check(cls, weights: Path) -> str:
        return f"quick, gain {cls._read_gain(weights)}"

    @classmethod
    def load(cls, weights: Path, device: Device) -> Self:
        return cls(cls._read_gain(weights))

    @staticmethod
    def _read_gain(weights: Path) -> float:
        try:
            return float(json.loads(weights.read_bytes())["gain"])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"the weights are not a gain: {error}") from error

    def infer(self, head: Head) -> NetworkOutput:
        asks_for = int(head[0, 0, 0])
        if asks_for == DIES:
            os.kill(os.getpid(), signal.SIGKILL)
        if asks_for == DAWDLES:
            wait_for("the word to go on", Path(os.environ[DAWDLES_UNTIL]).exists)
        self._broken |= asks_for == BREAKS
        if self._broken:
            raise RuntimeError("CUDA_ERROR_LAUNCH_FAILED")
        while asks_for == HANGS:
            try:
                time.sleep(3600)
            except BaseException:  # as a library that swallows the soft limit
                continue
        pair = split(head)
        volume, gradient = self.run(pair[:, ::_STRIDE, ::_STRIDE, ::_STRIDE, np.newaxis])
        return NetworkOutput(volume, core_map(gradient, pair))

    def core_volumes(self, heads: Iterable[Head]) -> list[float]:
        return [self.infer(head).core_ml for head in heads]

    def run(self, pair: NDArray[np.float32]) -> tuple[float, NDArray[np.float32]]:
        difference = np.float32(self._gain) * (pair[1] - pair[0])
        return float((difference**2).sum()), np.stack([-difference, difference])


class QuickTensorFlow(QuickNetwork):
    """One convolution instead, in TensorFlow."""

    def __init__(self, gain: float) -> None:
        super().__init__(gain)
        import tensorflow as tf

        def run(pair: Any) -> Any:
            cells = tf.nn.conv3d(pair, tf.constant(np.full((3, 3, 3, 1, 2), gain / 27, np.float32)), [1] * 5, "SAME")
            with tf.GradientTape() as tape:
                tape.watch(cells)
                volume = tf.reduce_sum((cells[1] - cells[0]) ** 2)
            return volume, tape.gradient(volume, cells)

        self._run = tf.function(run)

    def run(self, pair: NDArray[np.float32]) -> tuple[float, NDArray[np.float32]]:
        volume, gradient = self._run(pair)
        return float(volume), gradient.numpy()


class TooLarge(QuickNetwork):
    """Its model does not fit into the memory: the kernel ends the process that loads it."""

    @classmethod
    def load(cls, weights: Path, device: Device) -> Self:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("not reached")


QUICK = {"quick": QuickNetwork, "quick-tensorflow": QuickTensorFlow, "too-large": TooLarge}


def main() -> None:
    """Serve the queue `detect`, with waits that suit a test."""
    stage_limits.HARD_LIMIT_MARGIN_S = 1.0
    readiness.RETRY_S = 2.0
    readiness.HEARTBEAT_S = 1.0
    readiness.PROBLEM_AFTER_S = 3.0
    readiness.LOADING_LIMIT_S = 6.0
    ADAPTERS.update(QUICK)
    settings = load_settings(Path(sys.argv[1]), {})
    configure_logging(settings.log, "work-detect")
    serve(settings, sys.argv[2], ("detect",))


if __name__ == "__main__":
    main()
