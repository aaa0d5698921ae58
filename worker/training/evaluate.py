"""Evaluation of a model on synthetic heads that it was not trained on.

``python -m worker.training.evaluate --model DIR --heads DIR --count N``
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from rich.progress import track
from scipy.special import erfinv

from corewatch.findings import CORE_MAP_THRESHOLD, Side
from phantom.training import AlignedSample
from worker.models.detector import Detector
from worker.models.manifest import read_manifest
from worker.models.registry import load_from
from worker.training.heads import FIRST_HELD_BACK_SEED, HeadStore

ALERT_ML: Final = 20.0


@dataclass(frozen=True, slots=True)
class HeadEvaluation:
    """One head: true values, the model's finding, and the overlap of its map with the true core. Volumes in mL.

    Attributes
    ----------
    map_in_core
        Share of the map's core voxels (above `CORE_MAP_THRESHOLD`) that are core in truth.
    touches
        At least one of them is core in truth.
    difference_hu
        Difference of mean HU between the sides within the map's core.
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
    difference_hu: float = 0.0


@dataclass(frozen=True, slots=True)
class EvaluationSummary:
    """The figures of the model card; `large` heads have a core above the alert threshold.

    `asymmetry_sd_hu` is for the manifest: the root mean square of the difference between the sides, in HU, in heads without a core.
    """

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
    asymmetry_sd_hu: float


def evaluate_head(detector: Detector, asymmetry_sd_hu: float, seed: int, head: AlignedSample) -> HeadEvaluation:
    """Run the model on one head; `asymmetry_sd_hu` is the value of its manifest."""
    detection = detector.detect(head.hu, alert_ml=ALERT_ML)
    core = detection.core_map > CORE_MAP_THRESHOLD
    within = float(head.core_mask[core].mean()) if core.any() else 0.0
    finding = detection.finding
    return HeadEvaluation(
        seed=seed,
        true_ml=head.core_ml,
        true_side=head.side,
        core_ml=finding.core_ml,
        side=finding.side,
        side_confidence=finding.side_confidence,
        alert=finding.alert,
        map_in_core=within,
        touches=within > 0,
        difference_hu=difference_hu(finding.side_confidence, asymmetry_sd_hu),
    )


def difference_hu(side_confidence: float, asymmetry_sd_hu: float) -> float:
    """The difference in HU from which `worker.models.detector.decide_side` made this confidence; at most 8 SD."""
    return float(erfinv(min(side_confidence, 1 - 1e-15))) * asymmetry_sd_hu * math.sqrt(2.0)


def summarise(evaluations: Iterable[HeadEvaluation]) -> EvaluationSummary:
    """Summarise evaluations; at least one head has a large core and one has none."""
    every = list(evaluations)
    large = [o for o in every if o.true_ml > ALERT_ML]
    empty = [o for o in every if o.true_ml == 0]
    cores = [o for o in every if o.true_ml > 0]
    true, found = np.array([o.true_ml for o in every]), np.array([o.core_ml for o in every])
    return EvaluationSummary(
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
        asymmetry_sd_hu=float(np.sqrt(np.mean([o.difference_hu**2 for o in empty]))),
    )


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; one JSON line per head, then the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder with manifest.json and weights")
    parser.add_argument("--heads", type=Path, required=True, help="folder of heads; missing ones are generated")
    parser.add_argument("--first", type=int, default=FIRST_HELD_BACK_SEED, help="seed of the first head")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--out", type=Path, help="JSON lines, one per head")
    given = parser.parse_args(arguments)
    detector = load_from(given.model)
    asymmetry_sd_hu = read_manifest(given.model).thresholds.asymmetry_sd_hu
    store = HeadStore(given.heads)
    seeds = range(given.first, given.first + given.count)
    evaluations = [
        evaluate_head(detector, asymmetry_sd_hu, seed, store.head(seed)) for seed in track(seeds, description="held-back heads")
    ]
    if given.out is not None:
        given.out.write_text("".join(json.dumps(asdict(o)) + "\n" for o in evaluations))
    sys.stdout.write(json.dumps(asdict(summarise(evaluations)), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
