"""Measure a model on synthetic heads that it was not trained on.

``python -m worker.training.evaluate --model DIR --heads DIR --count N``
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from rich.progress import track

from corewatch.findings import CORE_MAP_THRESHOLD, Side
from phantom.training import AlignedSample
from worker.models.adapters import ADAPTERS
from worker.models.detector import ModelDetector
from worker.models.manifest import read_manifest
from worker.training.heads import FIRST_HELD_BACK_SEED, HeadStore

ALERT_ML: Final = 20.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """One head: what is true, what was found, and how the map lies to the true core.

    Attributes
    ----------
    map_in_core
        Share of the map's core voxels (above `CORE_MAP_THRESHOLD`) that are truly core.
    touches
        At least one of them is.
    """

    seed: int
    true_ml: float
    true_side: Side
    core_ml: float
    side: Side
    side_confidence: float
    alert: bool
    map_in_core: float
    touches: bool


@dataclass(frozen=True, slots=True)
class Figures:
    """What the model card reports; `large` heads have a core above the alert threshold."""

    heads: int
    correlation: float
    mean_absolute_error_ml: float
    large: int
    large_side_right: float
    large_alerted: float
    without_core: int
    false_alerts: float
    with_core: int
    map_touches_core: float
    map_in_core_mean: float


def outcome(detector: ModelDetector, seed: int, head: AlignedSample) -> Outcome:
    """Analyse one head."""
    detection = detector.detect(head.hu, alert_ml=ALERT_ML)
    core = detection.core_map > CORE_MAP_THRESHOLD
    within = float(head.core_mask[core].mean()) if core.any() else 0.0
    finding = detection.finding
    return Outcome(
        seed, head.core_ml, head.side, finding.core_ml, finding.side, finding.side_confidence, finding.alert, within, within > 0
    )


def figures(outcomes: Iterable[Outcome]) -> Figures:
    """Summarise; needs at least one large core and one head without a core."""
    every = list(outcomes)
    large = [o for o in every if o.true_ml > ALERT_ML]
    empty = [o for o in every if o.true_ml == 0]
    cores = [o for o in every if o.true_ml > 0]
    true, found = np.array([o.true_ml for o in every]), np.array([o.core_ml for o in every])
    return Figures(
        heads=len(every),
        correlation=float(np.corrcoef(true, found)[0, 1]),
        mean_absolute_error_ml=float(np.abs(true - found).mean()),
        large=len(large),
        large_side_right=float(np.mean([o.side is o.true_side for o in large])),
        large_alerted=float(np.mean([o.alert for o in large])),
        without_core=len(empty),
        false_alerts=float(np.mean([o.alert for o in empty])),
        with_core=len(cores),
        map_touches_core=float(np.mean([o.touches for o in cores])),
        map_in_core_mean=float(np.mean([o.map_in_core for o in cores])),
    )


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; one JSON line per head, then the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder with manifest.json and weights")
    parser.add_argument("--heads", type=Path, required=True, help="folder of heads; those that are missing are made")
    parser.add_argument("--first", type=int, default=FIRST_HELD_BACK_SEED, help="seed of the first head")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--out", type=Path, help="JSON lines, one per head")
    given = parser.parse_args(arguments)
    manifest = read_manifest(given.model)
    network = ADAPTERS[manifest.adapter].load(given.model / manifest.weights, "cpu")
    detector = ModelDetector(manifest.identity, network, manifest.thresholds, perturbations=0)
    store = HeadStore(given.heads)
    seeds = range(given.first, given.first + given.count)
    outcomes = [outcome(detector, seed, store.head(seed)) for seed in track(seeds, description="held-back heads")]
    if given.out is not None:
        given.out.write_text("".join(json.dumps(asdict(o)) + "\n" for o in outcomes))
    sys.stdout.write(json.dumps(asdict(figures(outcomes)), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
