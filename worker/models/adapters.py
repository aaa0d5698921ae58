"""Adapters: one class per kind of network, which checks its weights, loads them and runs the network. `ADAPTERS` lists them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from corewatch.units import GIB, MIB
from worker.models.core_map import CoreMap, core_map
from worker.models.hemispheres import HEMISPHERE_SHAPE, split
from worker.models.processor import tune
from worker.models.weights import read_weights

if TYPE_CHECKING:
    from worker.models.deepsymnet import DeepSymNet

Device = Literal["cpu", "gpu"]

Head = NDArray[np.uint8] | NDArray[np.float32]
"""A head on the network's grid: shape (146, 182, 133), network voxels (L-A-S), HU 0-100; float32 where it was resampled."""


@dataclass(frozen=True, slots=True, eq=False)
class NetworkOutput:
    """Raw output of a network for one head: the core volume in mL, which can be negative, and the core map."""

    core_ml: float
    core_map: CoreMap


class Adapter(Protocol):
    """A kind of network. The class checks and loads weights; an instance is a loaded network."""

    @classmethod
    def check(cls, weights: Path) -> str:
        """Check a weights file without loading TensorFlow; returns a description for people.

        Raises
        ------
        ConfigurationError
            The file is damaged, or another network's.
        """
        ...

    @classmethod
    def load(cls, weights: Path, device: Device) -> Self:
        """Load the network.

        Raises
        ------
        ConfigurationError
            The weights are refused, or the device is not available.
        """
        ...

    def infer(self, head: Head) -> NetworkOutput:
        """Core volume and core map of one head."""
        ...

    def core_volumes(self, heads: Iterable[Head]) -> list[float]:
        """Core volumes in mL, not clipped at 0, one per head; in batches that fit the memory. `heads` may be a generator."""
        ...


class DeepSymNetAdapter:
    """DeepSymNet with any number of filters."""

    BATCH_BYTES: Final = {"cpu": 256 * MIB, "gpu": 2 * GIB}
    """Memory for the activations of a batch. A processor gains nothing from more than one head at a time (docs/models.md)."""

    def __init__(self, network: DeepSymNet, device: Device = "cpu") -> None:
        self._network = network
        # measured: at the widest layer about four arrays of one hemisphere are alive (two of a convolution, two copies of oneDNN)
        case_bytes = 4 * int(np.prod(HEMISPHERE_SHAPE)) * network.filters * np.dtype(np.float32).itemsize
        self._batch = max(1, self.BATCH_BYTES[device] // case_bytes)

    @classmethod
    def check(cls, weights: Path) -> str:
        """Check layout, shapes and values."""
        return f"DeepSymNet, {read_weights(weights).filters} filters"

    @classmethod
    def load(cls, weights: Path, device: Device) -> Self:
        """Load the network; imports TensorFlow."""
        checked = read_weights(weights)
        tune()
        from worker.models.deepsymnet import DeepSymNet  # here: programs that only list models do not need TensorFlow

        if device == "cpu":
            _hide_gpus()
        return cls(DeepSymNet(checked, device), device)

    def infer(self, head: Head) -> NetworkOutput:
        """Core volume and core map of one head."""
        hemispheres = split(head)
        volumes, gradients = self._network.volumes_and_gradients(hemispheres[np.newaxis])
        return NetworkOutput(float(volumes[0]), core_map(gradients[0], hemispheres))

    def core_volumes(self, heads: Iterable[Head]) -> list[float]:
        """Core volumes in mL of several heads, as many at a time as the memory allows."""
        pairs = map(split, heads)
        volumes: list[float] = []
        while batch := list(islice(pairs, self._batch)):
            volumes.extend(self._network.volumes(np.stack(batch)).tolist())
        return volumes


def _hide_gpus() -> None:
    """Hide the GPUs from TensorFlow, which takes nearly all memory of each GPU that it sees with its first computation."""
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):  # this process has computed something already
        tf.config.set_visible_devices([], "GPU")


ADAPTERS: Final[dict[str, type[Adapter]]] = {"deepsymnet": DeepSymNetAdapter}
"""By the name in the manifest. A program can add its own before it starts a worker."""
