"""What the detector decides, with networks made by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from corewatch.errors import OperatorNeeded
from corewatch.findings import ModelIdentity, Side, decide_alert
from corewatch.geometry import NETWORK_SHAPE
from worker.models.adapters import Head, NetworkOutput
from worker.models.core_map import CoreMap
from worker.models.detector import Detector, decide_side
from worker.models.hemispheres import HEMISPHERE_SHAPE
from worker.models.manifest import Thresholds

IDENTITY = ModelIdentity("made-by-hand", "1", "0" * 64)
THRESHOLDS = Thresholds(side_min_ml=5.0, side_min_confidence=0.68, asymmetry_sd_hu=2.0)
HEAD = np.zeros(NETWORK_SHAPE, np.uint8)


def a_map(darker: Side = Side.LEFT, difference_hu: float = 6.0) -> CoreMap:
    return CoreMap(np.full(NETWORK_SHAPE, 7, np.uint8), np.zeros(HEMISPHERE_SHAPE, np.uint8), darker, difference_hu)


class Scripted:
    """Returns what the test set, and counts its inputs."""

    def __init__(self, core_ml: float, copies: Sequence[float] = (), found: CoreMap | None = None) -> None:
        self.core_ml, self.copies, self.found = core_ml, list(copies), found or a_map()
        self.read_heads, self.shown = 0, 0

    def infer(self, head: Head) -> NetworkOutput:
        self.read_heads += 1
        return NetworkOutput(self.core_ml, self.found)

    def core_volumes(self, heads: Iterable[Head]) -> list[float]:
        shown = len(list(heads))
        self.shown += shown
        return self.copies[:shown]


def detector(network: Scripted, perturbations: int = 0) -> Detector:
    return Detector(IDENTITY, network, THRESHOLDS, perturbations)


def test_a_negative_volume_becomes_zero() -> None:
    finding = detector(Scripted(-3.2)).detect(HEAD, alert_ml=20).finding

    assert finding.core_ml == 0
    assert not finding.alert
    assert finding.side is Side.NONE


def test_the_finding_carries_map_model_and_threshold() -> None:
    detection = detector(Scripted(30.0)).detect(HEAD, alert_ml=20)

    assert (detection.core_map == 7).all()
    assert detection.finding.model == IDENTITY
    assert detection.finding.alert_ml == 20
    assert detection.finding.alert
    assert detection.finding.core_ml_interval is None
    assert detection.finding.perturbations == ()
    assert not detection.finding.unstable


def test_the_spread_counts_the_analysed_head_itself_without_running_it_again() -> None:
    network = Scripted(20.0, copies=[10.0, 15.0, 25.0, 30.0])

    finding = detector(network, perturbations=5).detect(HEAD, alert_ml=20).finding

    assert (network.read_heads, network.shown) == (1, 4)
    assert len(finding.perturbations) == 5
    assert finding.core_ml == 20.0
    assert finding.core_ml_interval == pytest.approx((12.0, 28.0))
    assert finding.unstable


def test_displaced_copies_are_made_as_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """15 of them at once would take 200 MB beside the network."""
    made, ahead = 0, list[int]()

    def displaced(hu: NDArray[np.uint8], _perturbation: object) -> NDArray[np.uint8]:
        nonlocal made
        made += 1
        return hu

    class OneByOne(Scripted):
        def core_volumes(self, heads: Iterable[Head]) -> list[float]:
            for used, _head in enumerate(heads):
                ahead.append(made - used)
            return [1.0] * len(ahead)

    monkeypatch.setattr("worker.models.detector.perturbed", displaced)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    detector(OneByOne(1.0), perturbations=15).detect(HEAD, alert_ml=20)

    assert len(ahead) == 14
    assert max(ahead) <= 2


def test_copies_below_zero_count_as_zero() -> None:
    finding = detector(Scripted(0.5, copies=[-9.0, -9.0, -9.0, -9.0]), perturbations=5).detect(HEAD, alert_ml=20).finding

    assert finding.core_ml_interval is not None
    assert finding.core_ml_interval[0] == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_number_is_no_finding(value: float) -> None:
    with pytest.raises(OperatorNeeded, match="no number"):
        detector(Scripted(value)).detect(HEAD, alert_ml=20)
    with pytest.raises(OperatorNeeded, match="no number"):
        detector(Scripted(1.0, copies=[value] * 4), perturbations=5).detect(HEAD, alert_ml=20)


@pytest.mark.parametrize("wrong", [np.zeros((146, 182, 132), np.uint8), np.zeros(NETWORK_SHAPE, np.float32), np.zeros(5, np.uint8)])
def test_other_grids_and_types_are_refused(wrong: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="a head is uint8"):
        detector(Scripted(1.0)).detect(wrong, alert_ml=20)


def test_warming_up_runs_what_a_case_will_run() -> None:
    without, with_spread = Scripted(1.0, [1.0] * 4), Scripted(1.0, [1.0] * 4)

    detector(without).warm_up()
    detector(with_spread, perturbations=5).warm_up()

    assert (without.read_heads, without.shown) == (1, 0)
    assert (with_spread.read_heads, with_spread.shown) == (1, 1)


@given(core_ml=st.floats(0, 300), difference_hu=st.floats(0, 30), darker=st.sampled_from([Side.LEFT, Side.RIGHT]))
def test_a_side_is_named_only_with_enough_core_and_confidence(core_ml: float, difference_hu: float, darker: Side) -> None:
    side, confidence = decide_side(core_ml, a_map(darker, difference_hu), THRESHOLDS)

    assert 0 <= confidence <= 1
    clear = core_ml >= THRESHOLDS.side_min_ml and confidence >= THRESHOLDS.side_min_confidence
    assert side is (darker if clear else Side.NONE)


def test_confidence_is_the_share_of_natural_differences_that_are_smaller() -> None:
    one_sd, two_sd = (decide_side(50, a_map(difference_hu=hu), THRESHOLDS)[1] for hu in (2.0, 4.0))

    assert one_sd == pytest.approx(0.6827, abs=1e-4)
    assert two_sd == pytest.approx(0.9545, abs=1e-4)


def test_a_map_without_a_side_names_none() -> None:
    assert decide_side(80.0, a_map(Side.NONE, 0.0), THRESHOLDS) == (Side.NONE, 0.0)


@given(
    raw=st.floats(-50, 300),
    copies=st.lists(st.floats(-50, 300), min_size=4, max_size=4),
    alert_ml=st.floats(0.5, 200),
    difference_hu=st.floats(0, 30),
)
def test_what_a_finding_says_fits_together(raw: float, copies: list[float], alert_ml: float, difference_hu: float) -> None:
    network = Scripted(raw, copies, a_map(difference_hu=difference_hu))
    with patch("worker.models.detector.perturbed", lambda hu, _perturbation: hu):  # the network does not look at the copies
        finding = detector(network, perturbations=5).detect(HEAD, alert_ml=alert_ml).finding

    assert finding.core_ml_interval is not None
    low, high = finding.core_ml_interval
    every = [max(0.0, v) for v in (raw, *copies)]
    assert min(every) - 1e-9 <= low
    assert low <= high <= max(every) + 1e-9
    assert finding.alert == (finding.core_ml >= alert_ml)
    assert finding.unstable == (((low >= alert_ml) != finding.alert) or ((high >= alert_ml) != finding.alert))
    if low < alert_ml <= high:
        assert finding.unstable
    if finding.side is not Side.NONE:
        assert finding.core_ml >= THRESHOLDS.side_min_ml
        assert finding.side_confidence >= THRESHOLDS.side_min_confidence
    if all(v >= alert_ml for v in every) or all(v < alert_ml for v in every):
        assert not finding.unstable, "where every placement decides alike nothing is unstable"


@pytest.mark.parametrize(
    ("core_ml", "interval", "alert", "unstable"),
    [
        (20.0, (20.0, 20.0), True, False),  # the threshold itself is an alert, and nothing decides otherwise
        (20.0, (19.999, 25.0), True, True),
        (19.999, (15.0, 20.0), False, True),
        (19.999, (15.0, 19.999), False, False),
        (20.0, (11.0, 17.2), True, True),  # most placements say no, though the one that was analysed says yes
        (19.0, (21.0, 30.0), False, True),
        (0.0, (0.0, 0.0), False, False),
        (25.0, None, True, False),
    ],
)
def test_at_the_threshold(core_ml: float, interval: tuple[float, float] | None, alert: bool, unstable: bool) -> None:
    assert decide_alert(core_ml, interval, 20.0) == (alert, unstable)


def test_one_placement_alone_above_the_threshold_is_an_unstable_alert() -> None:
    finding = detector(Scripted(20.0, copies=[10.0, 11.0, 12.0, 13.0]), perturbations=5).detect(HEAD, alert_ml=20).finding

    assert finding.core_ml_interval is not None
    assert finding.core_ml_interval[1] < 20
    assert finding.alert
    assert finding.unstable


@given(first=st.floats(0, 30), second=st.floats(0, 30))
def test_a_greater_difference_is_never_less_confident(first: float, second: float) -> None:
    smaller, greater = sorted((first, second))

    assert (
        decide_side(50, a_map(difference_hu=smaller), THRESHOLDS)[1] <= decide_side(50, a_map(difference_hu=greater), THRESHOLDS)[1]
    )
