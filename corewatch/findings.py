"""Findings of the detector: core volume, side, alert, and the model behind them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray


class Side(StrEnum):
    """Side of the brain with the core, the patient's own."""

    LEFT = "left"
    RIGHT = "right"
    NONE = "none"
    """No clear side: too little core, or both hemispheres alike."""


DEMONSTRATION_MODELS = frozenset({"phantom-demo"})
"""Models shipped with corewatch for demonstration."""


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Name, version and weights digest of the model, part of every result."""

    name: str
    version: str
    sha256: str
    """Digest of the weights file, lower-case hex."""

    @property
    def demonstration(self) -> bool:
        """Whether the model was never trained on patients; its results are marked as a demonstration."""
        return self.name in DEMONSTRATION_MODELS


@dataclass(frozen=True, slots=True)
class Finding:
    """Finding of one case.

    Attributes
    ----------
    core_ml
        Estimated volume of the ischemic core in mL, never negative.
    core_ml_interval
        Placement range: 10-90 % range in mL under small perturbations of the alignment, or None where the spread was switched off.
        It does not contain the model's own error.
    side, side_confidence
        Side of the core and how clear it is, 0 to 1.
    alert
        `core_ml` is at or above the threshold `alert_ml`.
    unstable
        Another alignment of the same head could change the alert: the interval crosses the threshold, or lies on the other side of
        it than `core_ml`.
    perturbations
        Names of the displacements behind the interval; empty where the spread was switched off.
    model_rmse_ml
        The model's own error in mL (root mean square on its validation data), or None where it is not known.
    """

    core_ml: float
    core_ml_interval: tuple[float, float] | None
    side: Side
    side_confidence: float
    alert: bool
    alert_ml: float
    unstable: bool
    model: ModelIdentity
    perturbations: tuple[str, ...] = ()
    model_rmse_ml: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """A finding with its map: uint8, shape (146, 182, 133), network voxels (L-A-S), 0-100, 100 = strongest evidence."""

    finding: Finding
    core_map: NDArray[np.uint8]


CORE_MAP_THRESHOLD: Final = 50
"""Voxels of a core map above this value are drawn and segmented as core (published code)."""


def decide_alert(core_ml: float, interval: tuple[float, float] | None, alert_ml: float) -> tuple[bool, bool]:
    """Return (alert, unstable) for a volume in mL, its placement range and the alert threshold.

    >>> decide_alert(25.0, (18.0, 31.0), alert_ml=20.0)
    (True, True)
    """
    alert = core_ml >= alert_ml
    unstable = interval is not None and any((end >= alert_ml) != alert for end in interval)
    return alert, unstable
