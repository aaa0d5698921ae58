"""What every adapter must do, shown with DeepSymNet's and with a second one that only subtracts the sides."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import pytest
from numpy.typing import NDArray

from corewatch.errors import ConfigurationError
from corewatch.findings import Detection, Side
from corewatch.geometry import MIDLINE_INDEX, NETWORK_SHAPE
from worker.models import install_model, load_detector, verify_model
from worker.models.adapters import ADAPTERS, Adapter, Device, Head, NetworkOutput
from worker.models.core_map import core_map
from worker.models.detector import Detector
from worker.models.hemispheres import split
from worker.models.weights import expected_shapes, write_weights

ALERT_ML = 20.0


class DifferenceAdapter:
    """Counts the voxels that are clearly darker on one side; its "gradient" is that difference in coarse cells.

    Its "weights" are one number in a JSON file.
    """

    def __init__(self, margin: float) -> None:
        self._margin = np.float32(margin)

    @classmethod
    def check(cls, weights: Path) -> str:
        return f"difference, margin {cls._read_margin(weights)}"

    @classmethod
    def load(cls, weights: Path, device: Device) -> Self:
        return cls(cls._read_margin(weights))

    def infer(self, head: Head) -> NetworkOutput:
        pair = split(head)
        darker = np.stack([pair[1] - pair[0] > self._margin, pair[0] - pair[1] > self._margin])[:, :72, :180, :132]
        cells = darker.reshape(2, 9, 8, 20, 9, 11, 12).mean(axis=(2, 4, 6))[..., np.newaxis].astype(np.float32)
        return NetworkOutput(float(darker.sum()) / 1000, core_map(cells, pair))

    def core_volumes(self, heads: Iterable[Head]) -> list[float]:
        return [self.infer(head).core_ml for head in heads]

    @staticmethod
    def _read_margin(weights: Path) -> float:
        try:
            return float(json.loads(weights.read_bytes())["margin"])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"the weights are not a margin: {error}") from error


class WriteWeights(Protocol):
    def __call__(self, path: Path) -> None: ...


def _write_deepsymnet(path: Path) -> None:
    rng = np.random.default_rng(3)
    arrays = {}
    for name, shape in expected_shapes(1, 2).items():
        centre = {"gamma": 1.0, "moving_variance": 1.0, "kernel": 0.2, "bias": 0.1}.get(name.split("/")[1], 0.0)
        arrays[name] = np.abs(centre + 0.05 * rng.standard_normal(shape)).astype(np.float32)
    write_weights(path, arrays)


def _write_difference(path: Path) -> None:
    path.write_text('{"margin": 0.05}')


@dataclass(frozen=True)
class Case:
    name: str
    adapter: type[Adapter]
    write: WriteWeights


CASES = [Case("deepsymnet", ADAPTERS["deepsymnet"], _write_deepsymnet), Case("difference", DifferenceAdapter, _write_difference)]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    chosen: Case = request.param
    return chosen


@pytest.fixture(scope="module")
def models_dir(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    case.write(folder / "given")
    install_model(folder / "given", folder, "candidate", version="1", adapter=case.name, adapters={case.name: case.adapter})
    return folder


@pytest.fixture(scope="module")
def detector(case: Case, models_dir: Path) -> Detector:
    loaded = load_detector("candidate", models_dir, perturbations=5, adapters={case.name: case.adapter})
    loaded.warm_up()
    return loaded


def head(side: Side) -> NDArray[np.uint8]:
    """Two like hemispheres of 40 HU, and a cube of 40 mm of 20 HU in one of them."""
    hu = np.zeros(NETWORK_SHAPE, np.uint8)
    hu[10:136, 15:170, 10:120] = 40
    if side is Side.LEFT:
        hu[90:130, 60:100, 40:80] = 20
    if side is Side.RIGHT:
        hu[16:56, 60:100, 40:80] = 20
    return hu


@pytest.fixture(scope="module")
def on_right(detector: Detector) -> Detection:
    return detector.detect(head(Side.RIGHT), alert_ml=ALERT_ML)


def test_it_verifies_and_says_who_it_is(case: Case, models_dir: Path, detector: Detector) -> None:
    manifest = verify_model("candidate", models_dir, adapters={case.name: case.adapter})

    assert manifest.adapter == case.name
    assert detector.identity == manifest.identity


def test_its_finding_is_within_bounds(on_right: Detection, detector: Detector) -> None:
    finding = on_right.finding

    assert finding.core_ml >= 0
    assert 0 <= finding.side_confidence <= 1
    assert finding.alert == (finding.core_ml >= ALERT_ML)
    assert finding.core_ml_interval is not None
    assert 0 <= finding.core_ml_interval[0] <= finding.core_ml_interval[1]
    assert finding.model == detector.identity


def test_its_map_is_on_the_networks_grid_from_0_to_100(on_right: Detection) -> None:
    assert on_right.core_map.shape == NETWORK_SHAPE
    assert on_right.core_map.dtype == np.uint8
    assert on_right.core_map.max() <= 100


def test_its_map_lies_on_one_side_only(on_right: Detection) -> None:
    sides = [on_right.core_map[MIDLINE_INDEX:].any(), on_right.core_map[:MIDLINE_INDEX].any()]

    assert sum(map(bool, sides)) <= 1


def test_the_same_head_gives_the_same_detection(on_right: Detection, detector: Detector) -> None:
    again = detector.detect(head(Side.RIGHT), alert_ml=ALERT_ML)

    assert again.finding == on_right.finding
    np.testing.assert_array_equal(again.core_map, on_right.core_map)


def test_a_mirrored_head_gives_the_mirrored_detection(on_right: Detection, detector: Detector) -> None:
    mirrored = detector.detect(np.ascontiguousarray(head(Side.RIGHT)[::-1]), alert_ml=ALERT_ML)

    assert mirrored.finding.core_ml == pytest.approx(on_right.finding.core_ml, rel=1e-4, abs=1e-4)
    opposite = {Side.LEFT: Side.RIGHT, Side.RIGHT: Side.LEFT, Side.NONE: Side.NONE}
    assert mirrored.finding.side is opposite[on_right.finding.side]
    assert np.abs(mirrored.core_map[::-1].astype(int) - on_right.core_map).max() <= 1


def test_a_symmetric_head_has_no_side(detector: Detector) -> None:
    detection = detector.detect(head(Side.NONE), alert_ml=ALERT_ML)

    assert detection.finding.side is Side.NONE
    assert not detection.core_map.any()


def test_it_does_not_change_its_input(detector: Detector) -> None:
    hu = head(Side.LEFT)
    hu.setflags(write=False)

    detector.detect(hu, alert_ml=ALERT_ML)

    np.testing.assert_array_equal(hu, head(Side.LEFT))


@pytest.mark.parametrize("content", [b"", b"rubbish", b"\x89HDF\r\n\x1a\n" + b"\0" * 100])
def test_it_refuses_what_are_not_its_weights(case: Case, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights").write_bytes(content)

    with pytest.raises(ConfigurationError):
        case.adapter.check(tmp_path / "weights")
    with pytest.raises(ConfigurationError):
        case.adapter.load(tmp_path / "weights", "cpu")
