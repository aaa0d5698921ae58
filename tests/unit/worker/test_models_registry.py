"""Manifests, the list of models, installing and verifying."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from corewatch.errors import ConfigurationError
from worker.models import ModelNotFound, WeightsRefused, install_model, list_models, load_detector, verify_model
from worker.models import registry as registry_module
from worker.models.manifest import MANIFEST_NAME, read_manifest, sha256_of
from worker.models.weights import expected_shapes, write_weights


def make_weights(path: Path, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    write_weights(path, {n: np.abs(rng.standard_normal(s)).astype(np.float32) for n, s in expected_shapes(1, 2).items()})
    return path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return make_weights(tmp_path / "given.h5")


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    return tmp_path / "models"


def test_an_installed_model_is_listed_and_verifies(weights: Path, models_dir: Path) -> None:
    manifest = install_model(weights, models_dir, "mine", version="2", citation="Somebody 2020")

    entry = next(e for e in list_models(models_dir) if e.name == "mine")
    assert entry.manifest == manifest == verify_model("mine", models_dir)
    assert not entry.builtin
    assert entry.problem is None
    assert manifest.sha256 == sha256_of(weights)
    assert (manifest.identity.name, manifest.identity.version) == ("mine", "2")
    assert manifest.source == "given.h5"
    assert sorted(p.name for p in models_dir.iterdir()) == ["mine"]


def test_the_manifest_is_plain_json_with_everything_in_it(weights: Path, models_dir: Path) -> None:
    install_model(weights, models_dir, "mine", version="2")

    written = json.loads((models_dir / "mine" / MANIFEST_NAME).read_text())
    assert written["adapter"] == "deepsymnet"
    mask = {"beyond_brain_mm": 1.5, "grid_edge_voxels": 2}
    assert written["input"] == {"axes": "LAS", "shape": [146, 182, 133], "voxel_mm": 1.0, "hu_range": [0, 100], "mask": mask}
    assert {o["name"]: o["unit"] for o in written["outputs"]}["core_ml"] == "mL"
    assert written["thresholds"]["core_map"] == 50
    assert written["intended_use"]


def test_installing_again_replaces_the_version_and_its_weights(weights: Path, models_dir: Path, tmp_path: Path) -> None:
    install_model(weights, models_dir, "mine", version="1")
    second = install_model(make_weights(tmp_path / "new.h5", seed=1), models_dir, "mine", version="2")

    assert verify_model("mine", models_dir) == second
    assert sorted(p.name for p in (models_dir / "mine").iterdir()) == sorted([MANIFEST_NAME, second.weights])


def test_installing_the_same_file_again_changes_nothing_else(weights: Path, models_dir: Path) -> None:
    first = install_model(weights, models_dir, "mine", version="1")

    assert install_model(weights, models_dir, "mine", version="1") == first
    assert verify_model("mine", models_dir) == first


@pytest.mark.parametrize("sha256", ["0" * 64, "F" * 64])
def test_another_digest_is_refused_and_the_old_model_stays(weights: Path, models_dir: Path, sha256: str) -> None:
    first = install_model(weights, models_dir, "mine", version="1", sha256=sha256_of(weights).upper())

    with pytest.raises(ConfigurationError, match="not the file that was meant"):
        install_model(weights, models_dir, "mine", version="2", sha256=sha256)
    assert verify_model("mine", models_dir) == first


def test_a_file_that_is_no_weights_file_leaves_nothing_behind(models_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "x.h5").write_text("not weights")

    with pytest.raises(WeightsRefused):
        install_model(tmp_path / "x.h5", models_dir, "mine", version="1")
    assert list(models_dir.iterdir()) == []


@pytest.mark.parametrize("name", ["../evil", "Mine", "", "a/b", ".hidden", "-x", "a" * 64])
def test_names_that_are_no_folder_names_are_refused(weights: Path, models_dir: Path, name: str) -> None:
    with pytest.raises(ConfigurationError):
        install_model(weights, models_dir, name, version="1")
    assert not models_dir.exists()
    assert not (models_dir.parent / "evil").exists()


def test_a_built_in_name_is_refused(weights: Path, models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_model(weights, tmp_path / "builtin", "shipped", version="1")
    monkeypatch.setattr(registry_module, "BUILTIN_DIR", tmp_path / "builtin")

    with pytest.raises(ConfigurationError, match="built-in"):
        install_model(weights, models_dir, "shipped", version="2")
    assert next(e for e in list_models(models_dir) if e.name == "shipped").builtin


def test_a_missing_file_and_an_unknown_adapter_are_configuration_errors(weights: Path, models_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        install_model(tmp_path / "nowhere.h5", models_dir, "mine", version="1")
    with pytest.raises(ConfigurationError, match="no adapter"):
        install_model(weights, models_dir, "mine", version="1", adapter="unheard-of")


def test_weights_changed_after_installation_are_found(weights: Path, models_dir: Path) -> None:
    manifest = install_model(weights, models_dir, "mine", version="1")
    make_weights(models_dir / "mine" / manifest.weights, seed=9)

    with pytest.raises(ConfigurationError, match="not the file that was installed"):
        verify_model("mine", models_dir)
    with pytest.raises(ConfigurationError, match="not the file that was installed"):
        load_detector("mine", models_dir)


def test_missing_weights_and_missing_adapters_are_named(weights: Path, models_dir: Path) -> None:
    manifest = install_model(weights, models_dir, "mine", version="1")
    with pytest.raises(ConfigurationError, match="needs the adapter"):
        verify_model("mine", models_dir, adapters={})
    (models_dir / "mine" / manifest.weights).unlink()
    with pytest.raises(ConfigurationError, match="install it again"):
        verify_model("mine", models_dir)


def test_an_unknown_model_is_told_what_there_is(weights: Path, models_dir: Path) -> None:
    install_model(weights, models_dir, "mine", version="1")

    with pytest.raises(ModelNotFound, match=r"no model 'other'.*mine.*corewatch model install"):
        load_detector("other", models_dir)


def test_an_unknown_number_of_perturbations_is_refused(weights: Path, models_dir: Path) -> None:
    install_model(weights, models_dir, "mine", version="1")

    with pytest.raises(ConfigurationError, match="0, 5, 15"):
        load_detector("mine", models_dir, perturbations=7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "other"}, "names another model"),
        ({"sha256": "x"}, "sha256"),
        ({"weights": "../../secret"}, "weights"),
        ({"surprise": 1}, "surprise"),
        ({"input": {"axes": "RAS"}}, "axes"),
        ({"input": {"voxel_mm": 2.0}}, "the input must be"),
        ({"input": {"shape": [100, 100, 100]}}, "the input must be"),
        ({"input": {"hu_range": [0, 80]}}, "the input must be"),
        ({"version": "a\\b"}, "no backslash"),
        ({"intended_use": "Diagnosis.\nReally."}, "line breaks"),
        ({"thresholds": {"core_map": 10}}, "core_map"),
        ({"thresholds": {"asymmetry_sd_hu": float("nan")}}, "asymmetry_sd_hu: Input should be a finite number"),
        ({"thresholds": {"side_min_ml": float("inf")}}, "side_min_ml: Input should be a finite number"),
    ],
)
def test_a_bad_manifest_is_listed_with_its_problem(
    weights: Path, models_dir: Path, change: dict[str, object], message: str
) -> None:
    install_model(weights, models_dir, "mine", version="1")
    path = models_dir / "mine" / MANIFEST_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    entry = next(e for e in list_models(models_dir) if e.name == "mine")

    assert entry.manifest is None
    assert entry.problem is not None
    assert message in entry.problem
    with pytest.raises(ConfigurationError, match=message):
        load_detector("mine", models_dir)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "{" + " " * 300_000 + "}"])
def test_a_manifest_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST_NAME).write_text(text)

    with pytest.raises(ConfigurationError, match=MANIFEST_NAME):
        read_manifest(tmp_path)


def test_no_models_folder_is_no_error(tmp_path: Path) -> None:
    assert all(entry.builtin for entry in list_models(tmp_path / "absent"))


def test_importing_the_package_imports_no_tensorflow() -> None:
    code = "import sys, worker.models; sys.exit('tensorflow' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0
