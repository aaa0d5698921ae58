"""A model, loaded and ready: one aligned head in, one detection out."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from corewatch.errors import OperatorNeeded
from corewatch.findings import Detection, Finding, ModelIdentity, Side, decide_alert
from corewatch.geometry import NETWORK_SHAPE
from worker.models.core_map import CoreMap
from worker.models.manifest import Thresholds
from worker.models.spread import PERTURBATIONS, Perturbation, interval, perturbed

Head = NDArray[np.uint8] | NDArray[np.float32]
"""A head on the network's grid: (146, 182, 133), network voxels (L-A-S), HU 0-100; float32 where it was resampled."""


class Detector(Protocol):
    """What the pipeline needs of a model."""

    @property
    def identity(self) -> ModelIdentity:
        """Which model this is."""
        ...

    def detect(self, hu: NDArray[np.uint8], *, alert_ml: float) -> Detection:
        """Analyse one head.

        Parameters
        ----------
        hu
            uint8, (146, 182, 133), network voxels (L-A-S), HU clipped to 0-100.
        alert_ml
            Core volume in mL from which the finding is an alert.

        Raises
        ------
        ValueError
            `hu` has another shape or dtype.
        OperatorNeeded
            The model answers with something that is no number.
        """
        ...

    def warm_up(self) -> None:
        """Run once on an empty head, so that the first case does not pay for compilation."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What a network says about one head, before anything is decided: the volume in mL as it came (it can be below 0), the map."""

    core_ml: float
    core_map: CoreMap


class Network(Protocol):
    """What an adapter makes of a weights file."""

    def read(self, head: Head) -> Reading:
        """Volume and core map of one head."""
        ...

    def core_volumes(self, heads: Iterable[Head]) -> list[float]:
        """Volumes in mL, unclipped, one per head; in batches that fit the memory. Heads are made as they are asked for."""
        ...


class ModelDetector:
    """A `Detector` around any network: clips the volume, measures the spread, decides side and alert.

    Parameters
    ----------
    perturbations
        Size of the set of displaced copies, one of `spread.PERTURBATIONS`; 0 switches the spread off.
    """

    def __init__(self, identity: ModelIdentity, network: Network, thresholds: Thresholds, perturbations: int) -> None:
        self._identity = identity
        self._network = network
        self._thresholds = thresholds
        self._perturbations = PERTURBATIONS[perturbations]

    @property
    def identity(self) -> ModelIdentity:
        """Which model this is."""
        return self._identity

    def detect(self, hu: NDArray[np.uint8], *, alert_ml: float) -> Detection:
        """Analyse one head (see `Detector.detect`)."""
        if hu.shape != NETWORK_SHAPE or hu.dtype != np.uint8:
            raise ValueError(f"a head is uint8 of shape {NETWORK_SHAPE}, not {hu.dtype} of shape {hu.shape}")
        reading = self._network.read(hu)
        core_ml = _volume(reading.core_ml)
        core_ml_interval = self._interval(hu, core_ml)
        alert, unstable = decide_alert(core_ml, core_ml_interval, alert_ml)
        side, confidence = decide_side(core_ml, reading.core_map, self._thresholds)
        finding = Finding(
            core_ml=core_ml,
            core_ml_interval=core_ml_interval,
            side=side,
            side_confidence=confidence,
            alert=alert,
            alert_ml=alert_ml,
            unstable=unstable,
            model=self._identity,
            perturbations=tuple(map(str, self._perturbations)),
        )
        return Detection(finding, reading.core_map.voxels)

    def warm_up(self) -> None:
        """Run once on an empty head."""
        empty = np.zeros(NETWORK_SHAPE, np.uint8)
        self._network.read(empty)
        if self._perturbations:
            self._network.core_volumes([empty])

    def _interval(self, hu: NDArray[np.uint8], core_ml: float) -> tuple[float, float] | None:
        if not self._perturbations:
            return None
        # The identity's volume is known already.
        copies = _displaced(hu, [p for p in self._perturbations if not p.is_identity])
        return interval([core_ml, *(_volume(v) for v in self._network.core_volumes(copies))])


def _displaced(hu: NDArray[np.uint8], perturbations: Sequence[Perturbation]) -> Iterator[NDArray[np.float32]]:
    """The displaced copies in their order, as many at once as there are processors: 14 MB each add up."""
    at_once = os.cpu_count() or 1
    with ThreadPoolExecutor(at_once) as pool:  # interpolation holds no lock
        for start in range(0, len(perturbations), at_once):
            yield from pool.map(partial(perturbed, hu), perturbations[start : start + at_once])


def _volume(raw: float) -> float:
    """A volume is never negative; a network that was trained by regression can say so for heads without a core."""
    if not math.isfinite(raw):
        raise OperatorNeeded("the model answered with something that is no number", "verify it with: corewatch model verify")
    return max(0.0, float(raw))


def decide_side(core_ml: float, core_map: CoreMap, thresholds: Thresholds) -> tuple[Side, float]:
    """Side of the core and how clear it is.

    The confidence is the share of heads without a core whose hemispheres differ by less than this one's do within the map, were the
    natural difference normally distributed with the model's `asymmetry_sd_hu`. Below `side_min_confidence`, or with a core smaller
    than `side_min_ml`, no side is named; the confidence is given all the same.
    """
    confidence = math.erf(core_map.difference_hu / (thresholds.asymmetry_sd_hu * math.sqrt(2.0)))
    if core_ml < thresholds.side_min_ml or confidence < thresholds.side_min_confidence:
        return Side.NONE, confidence
    return core_map.darker, confidence
