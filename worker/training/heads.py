"""Synthetic heads for training and evaluation, generated once and kept on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from corewatch.findings import Side
from corewatch.geometry import MIDLINE_INDEX, NETWORK_SHAPE
from foundation.durable import replacing
from phantom.training import AlignedSample, aligned_sample
from worker.models.hemispheres import HEMISPHERE_SHAPE

FIRST_HELD_BACK_SEED: Final = 1_000_000
"""Seeds from this one on are used for evaluation only."""

CELL: Final = 8
"""Edge in voxels of one cell of the encoder's output: three halvings."""


@dataclass(frozen=True, slots=True)
class HeadStore:
    """Heads on disk, one file per seed, generated on first use."""

    folder: Path

    def head(self, seed: int) -> AlignedSample:
        """The head of a seed."""
        path = self.folder / f"{seed}.npz"
        if not path.exists():
            self.make(seed)
        with np.load(path) as file:
            mask = np.unpackbits(file["core"], count=int(np.prod(NETWORK_SHAPE))).reshape(NETWORK_SHAPE).astype(bool)
            return AlignedSample(file["hu"], float(file["core_ml"]), Side(str(file["side"])), mask)

    def make(self, seed: int) -> None:
        """Generate and keep the head of a seed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{seed}.npz"
        if path.exists():
            return
        sample = aligned_sample(seed)
        with replacing(path) as file:
            np.savez(file, hu=sample.hu, core_ml=sample.core_ml, side=str(sample.side), core=np.packbits(sample.core_mask))


def core_share(core: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Share of core (0-1) per cell of the encoder's output, (10, 23, 17), from a mask on the network's grid."""
    either = core[MIDLINE_INDEX:] | core[:MIDLINE_INDEX][::-1]
    cells = [-(-n // CELL) for n in HEMISPHERE_SHAPE]
    padded = np.zeros([n * CELL for n in cells], np.float32)
    padded[tuple(slice(n) for n in HEMISPHERE_SHAPE)] = either
    x, y, z = cells
    share: NDArray[np.float32] = padded.reshape(x, CELL, y, CELL, z, CELL).mean(axis=(1, 3, 5))
    return share
