"""Small values of the domain: limits, messages, findings, volumes, source images, states."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corewatch import clock
from corewatch.casefolder import CaseFolder
from corewatch.destinations import EMAIL, FOLDER, OPERATORS, WEBHOOK, WEBHOOK_NOTICES, escalation, gets_results, is_reserved
from corewatch.findings import CORE_MAP_THRESHOLD, ModelIdentity, decide_alert
from corewatch.geometry import LPS_TO_RAS, NETWORK_SHAPE, NETWORK_TO_RAS
from corewatch.instance import Instance
from corewatch.messages import Work
from corewatch.source_images import SourceImages, SourceSlice
from corewatch.stage_limits import StageLimits
from corewatch.states import (
    Stage,
)
from corewatch.volumes import AlignedHead, ScannerVolume
from tests.support.instances import one

# findings -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("core_ml", "interval", "alert", "unstable"),
    [
        (20.0, None, True, False),
        (19.999, None, False, False),
        (20.0, (20.0, 30.0), True, False),
        (25.0, (19.9, 30.0), True, True),
        (25.0, (10.0, 15.0), True, True),
        (15.0, (10.0, 19.9), False, False),
        (15.0, (10.0, 20.0), False, True),
        (15.0, (21.0, 30.0), False, True),
    ],
)
def test_an_alert_and_whether_another_placement_could_have_decided_otherwise(
    core_ml: float, interval: tuple[float, float] | None, alert: bool, unstable: bool
) -> None:
    assert decide_alert(core_ml, interval, 20.0) == (alert, unstable)


def test_the_threshold_of_a_core_map_is_the_published_one() -> None:
    assert CORE_MAP_THRESHOLD == 50


@pytest.mark.parametrize(("name", "demonstration"), [("phantom-demo", True), ("deepsymnet", False), ("phantom-demo-2", False)])
def test_the_model_of_the_demonstration_is_marked(name: str, demonstration: bool) -> None:
    assert ModelIdentity(name, "1", "0").demonstration is demonstration


# limits and messages --------------------------------------------------------------------------------------------------------------


def test_time_limits_of_the_stages() -> None:
    assert StageLimits() == StageLimits(180.0, 180.0, 180.0)
    limits = StageLimits(prepare_s=100.0, detect_s=200.0, deliver_s=50.0)
    assert [limits.soft_s(stage) for stage in (Stage.PREPARE, Stage.DETECT, Stage.RENDER, Stage.DELIVER)] == [100, 200, 50, 50]
    assert [limits.hard_s(stage) for stage in (Stage.PREPARE, Stage.DETECT, Stage.RENDER, Stage.DELIVER)] == [115, 215, 65, 65]
    assert limits.visibility_timeout_s == 335.0, "two minutes after the longest hard limit"


def test_a_message_holds_ids_alone() -> None:
    assert Work(Stage.PREPARE, "k3v9").kwargs == {"case_id": "k3v9"}
    assert Work(Stage.DELIVER, "k3v9", "pacs").kwargs == {"case_id": "k3v9", "destination": "pacs"}


@pytest.mark.parametrize(("stage", "destination"), [(stage, "pacs") for stage in Stage if stage is not Stage.DELIVER])
def test_only_a_delivery_names_a_destination(stage: Stage, destination: str) -> None:
    with pytest.raises(ValueError, match="destination"):
        Work(stage, "k3v9", destination)
    with pytest.raises(ValueError, match="destination"):
        Work(Stage.DELIVER, "k3v9")


# volumes --------------------------------------------------------------------------------------------------------------------------


def test_an_aligned_head_lies_on_the_networks_grid() -> None:
    hu = np.zeros(NETWORK_SHAPE, np.uint8)
    AlignedHead(hu, None, None)
    AlignedHead(hu, np.linalg.inv(NETWORK_TO_RAS) @ LPS_TO_RAS, None)
    with pytest.raises(ValueError, match="shape"):
        AlignedHead(hu[1:], None, None)


@pytest.mark.parametrize("wrong", [np.diag([-1.0, 1.0, 1.0, 1.0]), np.diag([1.0, 1.0, 1.1, 1.0])], ids=["mirrored", "scaled"])
def test_a_placement_neither_mirrors_nor_scales(wrong: np.ndarray) -> None:
    hu = np.zeros(NETWORK_SHAPE, np.uint8)
    with pytest.raises(ValueError, match="rotation"):
        AlignedHead(hu, np.linalg.inv(NETWORK_TO_RAS) @ LPS_TO_RAS @ wrong, None)


def test_the_spacing_of_a_volume() -> None:
    assert ScannerVolume(np.zeros((2, 3, 4), np.int16), np.diag([0.5, 0.6, 2.0, 1.0])).spacing_mm.tolist() == [0.5, 0.6, 2.0]


# source images --------------------------------------------------------------------------------------------------------------------


def test_a_pixel_of_a_source_image_in_the_patient() -> None:
    """PS3.3 C.7.6.2.1.1: a column index moves along the row direction by the spacing between columns."""
    slices = tuple(SourceSlice("1.2", f"1.{n}", 1, (-10.0, -20.0, 3.0 * n)) for n in range(3))
    images = SourceImages("9.9", 4, 5, (0.7, 0.4), (1.0, 0.0, 0.0, 0.0, 0.8, -0.6), slices)
    column, row = 3, 2
    np.testing.assert_allclose(
        images.pixel_to_lps(1) @ [column, row, 0, 1], [-10 + 3 * 0.4, -20 + 2 * 0.7 * 0.8, 3 - 2 * 0.7 * 0.6, 1]
    )
    np.testing.assert_allclose(images.pixel_to_lps(2)[:3, 2], [0.0, 0.6, 0.8])


# destinations, folders, instances -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "results", "reserved"),
    [
        (FOLDER, True, True),
        (EMAIL, True, True),
        (WEBHOOK, True, True),
        (OPERATORS, False, True),
        (WEBHOOK_NOTICES, False, True),
        ("refusal", False, True),
        ("refusal-main-pacs", False, True),
        ("webhook-refusal-main-pacs", False, True),
        (escalation(1), False, True),
        ("escalation-2", False, True),
        ("pacs", True, False),
        ("main-escalation-1", True, False),
    ],
)
def test_names_of_destinations(name: str, results: bool, reserved: bool) -> None:
    assert (gets_results(name), is_reserved(name)) == (results, reserved)


def test_files_of_a_case_have_names_of_their_own() -> None:
    folder = CaseFolder(Path("cases/k3v9"))
    names = [name for name, value in vars(CaseFolder).items() if isinstance(value, property)]
    paths = [getattr(folder, name) for name in names]
    assert len(set(paths)) == len(names)
    assert all(folder.path in path.parents for path in paths)
    assert folder.report.parent == folder.dicom


@given(st.builds(one, st.integers(1, 99), image_type=st.just(("A", "B")), pixel_spacing_mm=st.sampled_from([None, (0.5, 0.6)])))
def test_an_instance_comes_back_from_the_ledger_as_it_was(instance: Instance) -> None:
    again = Instance.from_json(instance.to_json())
    assert again == instance
    assert isinstance(Instance.from_json(instance.to_json() | {"image_type": ["A", "B"]}).image_type, tuple)
    assert {again: 1}[instance] == 1


def test_the_clock_says_utc() -> None:
    assert clock.utc_now().tzinfo is UTC
    assert abs((clock.utc_now() - datetime.now(UTC)).total_seconds()) < 60
