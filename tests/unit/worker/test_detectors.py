"""Which models a worker loads, on which device, and what becomes of it when one is missing. Models are the test's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from config.settings import Settings
from corewatch.errors import ConfigurationError, NotAnalysed
from corewatch.findings import ModelIdentity
from corewatch.reasons import Reason
from worker.models import detectors as module
from worker.models.detectors import Detectors

NO_GPU = "TensorFlow finds no GPU"


class Loaded:
    """A detector that remembers how it was loaded and how often it ran."""

    def __init__(self, name: str, device: str, perturbations: int) -> None:
        self.identity = ModelIdentity(name, "1", "0" * 64)
        self.device, self.perturbations, self.runs = device, perturbations, 0
        self.broken = False

    def warm_up(self) -> None:
        self.runs += 1
        if self.broken:
            raise RuntimeError("CUDA_ERROR_LAUNCH_FAILED")


class Shelf:
    """The models there are, and the devices."""

    def __init__(self) -> None:
        self.names = {"core", "lvo"}
        self.devices = {"cpu"}
        self.loaded: list[Loaded] = []

    def load(self, name: str, _folder: Path, *, device: str, perturbations: int) -> Loaded:
        if name not in self.names:
            raise ConfigurationError(f"there is no model {name!r}")
        if device not in self.devices:
            raise ConfigurationError(NO_GPU)
        self.loaded.append(Loaded(name, device, perturbations))
        return self.loaded[-1]


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    made = Shelf()
    monkeypatch.setattr(module, "load_detector", made.load)
    return made


@pytest.fixture
def detectors(shelf: Shelf, tmp_path: Path) -> Callable[..., Detectors]:
    def make(rules: tuple[str, ...] = (), **model: Any) -> Detectors:
        series = {"rules": [{"name": name, "model": name} for name in rules]}
        return Detectors(Settings.model_validate({"data_dir": tmp_path, "model": {"name": "core"} | model, "series": series}))

    return make


def test_every_model_that_a_case_can_be_given_to_is_loaded_and_traced_before_the_first_case(
    shelf: Shelf, detectors: Callable[..., Detectors]
) -> None:
    ours = detectors(("lvo", "core", "lvo"))

    assert ours.warm_up() is None
    assert [(d.identity.name, d.runs) for d in shelf.loaded] == [("core", 1), ("lvo", 1)]
    assert ours.get(None) is shelf.loaded[0]
    assert ours.get("core") is shelf.loaded[0]
    assert ours.get("lvo") is shelf.loaded[1]
    assert len(shelf.loaded) == 2


def test_a_missing_model_of_a_rule_keeps_no_other_series_waiting(shelf: Shelf, detectors: Callable[..., Detectors]) -> None:
    shelf.names = {"core"}
    ours = detectors(("lvo",))

    with capture_logs() as said:
        assert ours.warm_up() is None
    assert [(line["log_level"], line.get("model")) for line in said] == [("info", "core"), ("error", "lvo")]
    with pytest.raises(NotAnalysed) as caught:
        ours.get("lvo")
    assert caught.value.reason is Reason.MODEL_MISSING
    shelf.names.add("lvo")  # installed meanwhile
    assert ours.get("lvo").identity.name == "lvo"


def test_without_the_model_of_the_settings_there_is_none(shelf: Shelf, detectors: Callable[..., Detectors]) -> None:
    shelf.names = {"lvo"}

    assert detectors(("lvo",)).warm_up() == "core: there is no model 'core'"
    assert shelf.loaded == []


def test_a_model_that_breaks_is_let_go_and_loaded_anew(shelf: Shelf, detectors: Callable[..., Detectors]) -> None:
    ours = detectors()
    assert ours.warm_up() is None
    shelf.loaded[0].broken = True

    assert ours.warm_up() == "core: RuntimeError"
    assert ours.warm_up() is None
    assert len(shelf.loaded) == 2


def test_without_a_gpu_there_is_no_model_and_no_silent_fallback(shelf: Shelf, detectors: Callable[..., Detectors]) -> None:
    assert detectors(device="gpu").warm_up() == f"core: {NO_GPU}"
    assert shelf.loaded == []


def test_the_processor_stands_in_where_the_settings_say_so_and_the_log_tells(
    shelf: Shelf, detectors: Callable[..., Detectors]
) -> None:
    with capture_logs() as said:
        assert detectors(device="gpu", cpu_fallback=True).warm_up() is None
    assert [d.device for d in shelf.loaded] == ["cpu"]
    assert [(line["log_level"], line["why"]) for line in said if line["event"] == "gpu_missing_using_cpu"] == [("error", NO_GPU)]


def test_without_tensorflow_there_is_no_model(detectors: Callable[..., Detectors], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'tensorflow'")

    monkeypatch.setattr(module, "load_detector", fail)

    problem = detectors().warm_up()
    assert problem is not None
    assert "No module named 'tensorflow'; install corewatch[cpu]" in problem


def test_with_a_gpu_nothing_falls_back(shelf: Shelf, detectors: Callable[..., Detectors]) -> None:
    shelf.devices.add("gpu")

    assert detectors(device="gpu", cpu_fallback=True).warm_up() is None
    assert [d.device for d in shelf.loaded] == ["gpu"]


@pytest.mark.parametrize(
    ("model", "size"), [({}, 5), ({"perturbations": 15}, 15), ({"spread": False}, 0), ({"spread": False, "perturbations": 15}, 0)]
)
def test_the_spread_is_as_large_as_the_settings_say(
    shelf: Shelf, detectors: Callable[..., Detectors], model: dict[str, Any], size: int
) -> None:
    detectors(**model).get(None)

    assert shelf.loaded[0].perturbations == size
