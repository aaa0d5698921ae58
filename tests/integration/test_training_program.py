"""The two commands of the model card, as they stand there, on three small heads that are made already."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cli.children import own_environment
from corewatch.findings import Side
from corewatch.geometry import MIDLINE_INDEX, NETWORK_SHAPE
from phantom.training import AlignedSample
from worker.models.manifest import read_manifest, sha256_of
from worker.models.weights import read_weights
from worker.training.evaluate import EvaluationSummary
from worker.training.heads import HeadStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CORES_ML = (0.0, 64.0, 0.0)


def head(seed: int) -> AlignedSample:
    """Two like hemispheres with noise; in the second head a darker cube on the left."""
    hu = np.zeros(NETWORK_SHAPE)
    hu[10:136, 15:170, 10:120] = 40 + np.random.default_rng(seed).normal(0, 3, (126, 155, 110))
    core = np.zeros(NETWORK_SHAPE, bool)
    if CORES_ML[seed]:
        core[MIDLINE_INDEX + 20 : MIDLINE_INDEX + 60, 60:100, 40:80] = True
        hu[core] -= 12
    return AlignedSample(hu.astype(np.uint8), CORES_ML[seed], Side.LEFT if CORES_ML[seed] else Side.NONE, core)


def run(module: str, *arguments: str | Path) -> str:
    command = [sys.executable, "-P", "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=own_environment({}), timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_model_is_trained_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.training.heads.aligned_sample", head)
    for seed in range(len(CORES_ML)):
        HeadStore(tmp_path / "heads").make(seed)
    model = tmp_path / "out" / "phantom-demo"
    training = ("worker.training.phantom_demo", "--work", tmp_path, "--out", model, "--heads", "3", "--steps", "2", "--batch", "2")

    shown = run(*training)

    assert "training" in shown, "a bar shows how far it is"
    first = sha256_of(model / "weights.h5")
    assert read_manifest(model).sha256 == first
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 2
    assert read_weights(model / "weights.h5").filters == 6

    said = run(
        "worker.training.evaluate",
        "--model",
        model,
        "--heads",
        tmp_path / "heads",
        "--first",
        "0",
        "--count",
        "3",
        "--out",
        tmp_path / "lines",
    )
    found = EvaluationSummary(**json.loads(said[said.index("{") :]))
    assert (found.heads, found.large, found.without_core, found.with_core) == (3, 1, 2, 1)
    lines = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    assert [line["true_ml"] for line in lines] == list(CORES_ML)
