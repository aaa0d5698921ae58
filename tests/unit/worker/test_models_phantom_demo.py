"""The built-in demonstration model is whole, small, says what it is, and works on synthetic heads it never saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from corewatch.findings import CORE_MAP_THRESHOLD, Side
from phantom.head import HeadSpec
from phantom.training import aligned_sample
from worker.models import list_models, load_detector, verify_model
from worker.models.detector import Detector
from worker.models.registry import BUILTIN_DIR
from worker.models.weights import read_weights

NAME = "phantom-demo"
SEED = 2_000_000
"""Neither trained on nor measured with."""

ALERT_ML = 20.0


def test_it_is_listed_as_built_in_and_verifies(tmp_path: Path) -> None:
    entry = next(e for e in list_models(tmp_path) if e.name == NAME)

    assert entry.builtin
    assert verify_model(NAME, tmp_path) == entry.manifest


def test_it_is_small() -> None:
    folder = BUILTIN_DIR / NAME

    assert sum(file.stat().st_size for file in folder.iterdir()) < 2_000_000
    assert read_weights(folder / "weights.h5").filters <= 8


def test_manifest_and_card_say_that_it_is_not_for_patients(tmp_path: Path) -> None:
    intended_use = verify_model(NAME, tmp_path).intended_use
    card = (BUILTIN_DIR / NAME / "README.md").read_text(encoding="utf-8")

    for text in (intended_use, card):
        assert "must not be used on patients" in text
        assert "synthetic heads" in text


def test_the_card_speaks_of_these_weights(tmp_path: Path) -> None:
    card = (BUILTIN_DIR / NAME / "README.md").read_text(encoding="utf-8")

    assert verify_model(NAME, tmp_path).sha256 in card


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    return load_detector(NAME, tmp_path_factory.mktemp("models"))


@pytest.mark.slow
@pytest.mark.parametrize("side", [Side.LEFT, Side.RIGHT])
def test_a_large_core_is_found_on_its_side(detector: Detector, side: Side) -> None:
    head = aligned_sample(SEED, HeadSpec(SEED, 60.0, side))

    detection = detector.detect(head.hu, alert_ml=ALERT_ML)

    assert detection.finding.side is side
    assert detection.finding.alert
    assert 30 < detection.finding.core_ml < 100
    core = detection.core_map > CORE_MAP_THRESHOLD
    assert np.mean(head.core_mask[core]) > 0.5


@pytest.mark.slow
def test_a_head_without_a_core_is_no_alert(detector: Detector) -> None:
    finding = detector.detect(aligned_sample(SEED, HeadSpec(SEED)).hu, alert_ml=ALERT_ML).finding

    assert not finding.alert
    assert finding.side is Side.NONE
