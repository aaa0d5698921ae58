"""Detector: a loaded model with the decisions made from its output (core volume, interval, side, alert)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from corewatch.errors import OperatorNeeded
from corewatch.findings import Detection, Finding, ModelIdentity, Side, decide_alert
from corewatch.geometry import NETWORK_SHAPE
from worker.models.adapters import Adapter
from worker.models.core_map import CoreMap
from worker.models.input_mask import cut, is_masked
from worker.models.manifest import InputMask, Thresholds
from worker.models.spread import PERTURBATIONS, Perturbation, interval, perturbed


class Detector:
    """A loaded model: aligned head in; finding and core map out. Clips the volume, measures its interval, decides side and alert.

    Parameters
    ----------
    network
        A loaded network (`worker.models.adapters`).
    perturbations
        Number of displaced copies that the interval is measured with, a key of `spread.PERTURBATIONS`; 0: no interval.
    rmse_ml
        The model's own error in mL, which every finding names; None where it is not known.
    mask
        What the model sees of a head (`worker.models.input_mask`); None: all of it.
    """

    def __init__(
        self,
        identity: ModelIdentity,
        network: Adapter,
        thresholds: Thresholds,
        perturbations: int,
        rmse_ml: float | None = None,
        mask: InputMask | None = None,
    ) -> None:
        self._identity = identity
        self._network = network
        self._thresholds = thresholds
        self._rmse_ml = rmse_ml
        self._mask = mask
        self._perturbations = PERTURBATIONS[perturbations]

    @property
    def identity(self) -> ModelIdentity:
        """Which model this is."""
        return self._identity

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
            The output of the network is not a number.
        """
        if hu.shape != NETWORK_SHAPE or hu.dtype != np.uint8:
            raise ValueError(f"a head is uint8 of shape {NETWORK_SHAPE}, not {hu.dtype} of shape {hu.shape}")
        mask = None if self._mask is None or is_masked(hu) else self._mask
        output = self._network.infer(hu if mask is None else cut(hu, mask))
        core_ml = _clipped_ml(output.core_ml)
        core_ml_interval = self._interval(hu, mask, core_ml)
        alert, unstable = decide_alert(core_ml, core_ml_interval, alert_ml)
        side, confidence = decide_side(core_ml, output.core_map, self._thresholds)
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
            model_rmse_ml=self._rmse_ml,
        )
        return Detection(finding, output.core_map.voxels)

    def warm_up(self) -> None:
        """Run once on an empty head, so that the first case does not wait for compilation."""
        empty = np.zeros(NETWORK_SHAPE, np.uint8)
        self._network.infer(empty)
        if self._perturbations:
            self._network.core_volumes([empty])

    def _interval(self, hu: NDArray[np.uint8], mask: InputMask | None, core_ml: float) -> tuple[float, float] | None:
        if not self._perturbations:
            return None
        # the volume of the identity is known already
        copies = _displaced(hu, [p for p in self._perturbations if not p.is_identity])
        if mask is not None:  # the mask belongs to the grid: a head that lies elsewhere is cut elsewhere
            copies = (cut(copy, mask) for copy in copies)
        return interval([core_ml, *(_clipped_ml(v) for v in self._network.core_volumes(copies))])


def _displaced(hu: NDArray[np.uint8], perturbations: Sequence[Perturbation]) -> Iterator[NDArray[np.float32]]:
    """The displaced copies (14 MB each) in their order, as many in memory at once as there are processors."""
    at_once = os.cpu_count() or 1
    with ThreadPoolExecutor(at_once) as pool:  # SciPy releases the GIL
        for start in range(0, len(perturbations), at_once):
            yield from pool.map(partial(perturbed, hu), perturbations[start : start + at_once])


def _clipped_ml(raw: float) -> float:
    """Core volume in mL, at least 0: a regression network can return a negative volume for a head without a core."""
    if not math.isfinite(raw):
        raise OperatorNeeded("the model answered with something that is no number", "verify it with: corewatch model verify")
    return max(0.0, float(raw))


def decide_side(core_ml: float, core_map: CoreMap, thresholds: Thresholds) -> tuple[Side, float]:
    """Side of the core, and the confidence in it (0-1).

    The confidence is the share of heads without a core whose hemispheres differ by less within the map than in this head, if the
    natural difference is normally distributed with the model's `asymmetry_sd_hu`. Below `side_min_confidence`, or with a core
    smaller than `side_min_ml`, the side is NONE; the confidence is returned all the same.
    """
    confidence = math.erf(core_map.difference_hu / (thresholds.asymmetry_sd_hu * math.sqrt(2.0)))
    if core_ml < thresholds.side_min_ml or confidence < thresholds.side_min_confidence:
        return Side.NONE, confidence
    return core_map.darker, confidence
