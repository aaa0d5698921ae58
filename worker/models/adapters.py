"""Adapters: how the weights of one kind of network are checked and loaded. A new kind is one new entry in `ADAPTERS`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol

import numpy as np

from corewatch.units import GIB, MIB
from worker.models.core_map import core_map
from worker.models.detector import Head, Network, Reading
from worker.models.hemispheres import HEMISPHERE_SHAPE, split
from worker.models.processor import tune
from worker.models.weights import read_weights

if TYPE_CHECKING:
    from worker.models.deepsymnet import DeepSymNet

Device = Literal["cpu", "gpu"]


class Adapter(Protocol):
    """One kind of network."""

    def check(self, weights: Path) -> str:
        """Check a weights file without loading TensorFlow; return a description for people.

        Raises
        ------
        ConfigurationError
            The file is not a sound weights file of this kind.
        """
        ...

    def load(self, weights: Path, device: Device) -> Network:
        """Load the network.

        Raises
        ------
        ConfigurationError
            The weights are refused, or the device is not there.
        """
        ...


class DeepSymNetAdapter:
    """DeepSymNet of any number of filters."""

    def check(self, weights: Path) -> str:
        """Check the file's layout, shapes and values."""
        sound = read_weights(weights)
        return f"DeepSymNet, {sound.filters} filters"

    def load(self, weights: Path, device: Device) -> Network:
        """Load the network; TensorFlow is imported here."""
        sound = read_weights(weights)
        tune()
        from worker.models.deepsymnet import DeepSymNet  # here, so that programs which only list models need no TensorFlow

        if device == "cpu":
            _leave_gpus_alone()
        return DeepSymNetNetwork(DeepSymNet(sound, device), device)


def _leave_gpus_alone() -> None:
    """Hide the GPUs from TensorFlow: with the first thing that it computes it takes nearly all memory of each one that it sees."""
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):  # this process has computed something already
        tf.config.set_visible_devices([], "GPU")


class DeepSymNetNetwork:
    """`Network` around `DeepSymNet`."""

    BATCH_BYTES: Final = {"cpu": 256 * MIB, "gpu": 2 * GIB}
    """What a batch may take for its activations. A processor wins nothing by more than one head at a time (docs/models.md)."""

    def __init__(self, network: DeepSymNet, device: Device = "cpu") -> None:
        self._network = network
        # Measured: at the widest place about four arrays of one hemisphere are alive (a convolution's two, oneDNN's copies).
        case_bytes = 4 * int(np.prod(HEMISPHERE_SHAPE)) * network.filters * np.dtype(np.float32).itemsize
        self._batch = max(1, self.BATCH_BYTES[device] // case_bytes)

    def read(self, head: Head) -> Reading:
        """Volume and core map of one head."""
        hemispheres = split(head)
        volumes, gradients = self._network.volumes_and_gradients(hemispheres[np.newaxis])
        return Reading(float(volumes[0]), core_map(gradients[0], hemispheres))

    def core_volumes(self, heads: Iterable[Head]) -> list[float]:
        """Volumes of several heads, as many at a time as the memory allows."""
        pairs = map(split, heads)
        volumes: list[float] = []
        while batch := list(islice(pairs, self._batch)):
            volumes.extend(self._network.volumes(np.stack(batch)).tolist())
        return volumes


ADAPTERS: dict[str, Adapter] = {"deepsymnet": DeepSymNetAdapter()}
"""By the name that manifests use."""
