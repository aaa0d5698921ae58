"""Time and memory of the detector: ``python -m benchmarks.detector [--models-dir DIR] [--repeats N] [--head FILE]``.

Measures every model there is, built-in and installed, each in a process of its own so that the peak memory is its own. The head is
synthetic unless an aligned NIfTI is given; the time does not depend on what it shows.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import nibabel as nib
import numpy as np

from worker.models import list_models, load_detector
from worker.models.spread import PERTURBATIONS

ALERT_ML = 20.0
T = TypeVar("T")


def measure(name: str, models_dir: Path, device: str, perturbations: int, head: Path | None, repeats: int) -> dict[str, object]:
    """One model with one setting, in this process."""
    if head is None:
        from phantom.training import aligned_sample

        hu = aligned_sample(1).hu
    else:
        hu = np.asarray(nib.load(head).dataobj, np.uint8)
    before = _peak_mib()
    load_s, detector = _timed(lambda: load_detector(name, models_dir, device=device, perturbations=perturbations))
    warm_up_s, _ = _timed(detector.warm_up)
    times = []
    for _ in range(repeats):
        seconds, detection = _timed(lambda: detector.detect(hu, alert_ml=ALERT_ML))
        times.append(seconds)
    return {
        "model": name,
        "device": device,
        "perturbations": perturbations,
        "load_s": round(load_s, 2),
        "warm_up_s": round(warm_up_s, 2),
        "median_s": round(statistics.median(times), 3),
        "fastest_s": round(min(times), 3),
        "peak_mib": round(_peak_mib()),
        "peak_mib_before_model": round(before),
        "core_ml": round(detection.finding.core_ml, 3),
    }


def _timed(action: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    result = action()
    return time.perf_counter() - start, result


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models-dir", type=Path, default=Path("data/models"), help="installed models, besides the built-in ones")
    parser.add_argument("--model", action="append", help="only this one; may be given several times")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--perturbations", type=int, action="append", choices=tuple(PERTURBATIONS), help="default: 0 and 5")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--head", type=Path, help="aligned NIfTI on the network's grid")
    given = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    names = given.model or [entry.name for entry in list_models(given.models_dir) if entry.problem is None]
    spawn = multiprocessing.get_context("spawn")  # each model starts from nothing
    for name in names:
        for perturbations in given.perturbations or [0, 5]:
            with spawn.Pool(1) as pool:
                arguments = (name, given.models_dir, given.device, perturbations, given.head, given.repeats)
                print(json.dumps(pool.apply(measure, arguments)), flush=True)


if __name__ == "__main__":
    main()
