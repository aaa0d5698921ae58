"""Installing while others install, load, or are killed in the middle: there is always one whole model, and nothing is left over."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from corewatch.errors import ConfigurationError
from foundation.lock import locked
from tests.support.detect_worker import QuickNetwork
from worker.models import install as install_module
from worker.models import install_model, list_models, load_detector, verify_model
from worker.models.adapters import ADAPTERS, DeepSymNetAdapter, Device
from worker.models.manifest import MANIFEST_NAME, ModelManifest, write_manifest
from worker.models.weights import expected_shapes, write_weights

KILLED = """
import os, signal, sys
from pathlib import Path
from worker.models import install as module
def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
class Dies(module.ADAPTERS["deepsymnet"]):
    check = die
setattr(module, sys.argv[3], die) if sys.argv[3] != "check" else None
adapters = {"deepsymnet": Dies} if sys.argv[3] == "check" else module.ADAPTERS
module.install_model(Path(sys.argv[1]), Path(sys.argv[2]), "mine", version="2", adapters=adapters)
"""


def weights(path: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    write_weights(path, {n: np.abs(rng.standard_normal(s)).astype(np.float32) for n, s in expected_shapes(1, 2).items()})
    return path


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return weights(tmp_path / "first.h5", 1)


@pytest.fixture
def second(tmp_path: Path) -> Path:
    return weights(tmp_path / "second.h5", 2)


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.mark.parametrize("before", ["check", "_publish", "write_manifest"])
def test_an_installation_that_is_killed_changes_nothing_and_leaves_nothing_for_long(
    before: str, first: Path, second: Path, models_dir: Path
) -> None:
    old = install_model(first, models_dir, "mine", version="1")

    done = subprocess.run([sys.executable, "-c", KILLED, str(second), str(models_dir), before], timeout=120, check=False)

    assert done.returncode == -signal.SIGKILL
    assert verify_model("mine", models_dir) == old
    assert [e.name for e in list_models(models_dir) if not e.builtin] == ["mine"]
    (models_dir / "mine" / ".manifest-left").write_text("{")  # of one that was killed while it wrote
    new = install_model(second, models_dir, "mine", version="3")
    assert [p.name for p in models_dir.iterdir()] == ["mine"]
    assert {p.name for p in (models_dir / "mine").iterdir()} == {MANIFEST_NAME, new.weights}


def test_a_folder_that_another_installer_is_at_is_left_alone(first: Path, second: Path, models_dir: Path) -> None:
    class Meanwhile(DeepSymNetAdapter):
        @classmethod
        def check(cls, weights: Path) -> str:
            install_model(second, models_dir, "other", version="1")
            return super().check(weights)

    manifest = install_model(first, models_dir, "mine", version="1", adapters={"deepsymnet": Meanwhile})

    assert verify_model("mine", models_dir) == manifest
    assert verify_model("other", models_dir).version == "1"


def test_two_at_once_come_one_after_the_other(first: Path, second: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the first would remove, as left over, the weights of the second, whose manifest is not there yet."""
    waits, threads = threading.Event(), list[threading.Thread]()

    def seen(folder: Path) -> AbstractContextManager[None]:
        if threading.current_thread() in threads:
            waits.set()
        return locked(folder)

    def begin_the_second(folder: Path, manifest: ModelManifest) -> None:
        if not threads:
            threads.append(threading.Thread(target=install_model, args=(second, models_dir, "mine"), kwargs={"version": "2"}))
            threads[0].start()
            assert waits.wait(60)
        write_manifest(folder, manifest)

    monkeypatch.setattr(install_module, "locked", seen)
    monkeypatch.setattr(install_module, "write_manifest", begin_the_second)
    install_model(first, models_dir, "mine", version="1")
    threads[0].join(60)

    assert verify_model("mine", models_dir).version == "2"


def test_whoever_loads_while_a_new_version_comes_gets_the_old_or_the_new_one(first: Path, second: Path, models_dir: Path) -> None:
    """The manifest was read, then the weights that it names were removed: that is no missing model."""
    replaced: list[Path] = []

    class Slow(DeepSymNetAdapter):
        @classmethod
        def check(cls, weights: Path) -> str:
            cls._replace(weights)
            return super().check(weights)

        @classmethod
        def load(cls, weights: Path, device: Device) -> QuickNetwork:
            cls._replace(weights)
            super().check(weights)
            return QuickNetwork(1.0)

        @classmethod
        def _replace(cls, weights: Path) -> None:
            if not replaced:
                replaced.append(weights)
                install_model(second, models_dir, "mine", version="2", adapters=ADAPTERS)
                assert not weights.exists()

    install_model(first, models_dir, "mine", version="1")
    assert load_detector("mine", models_dir, adapters={"deepsymnet": Slow}).identity.version == "2"
    install_model(first, models_dir, "mine", version="1")
    replaced.clear()
    assert verify_model("mine", models_dir, adapters={"deepsymnet": Slow}).version == "2"


def test_weights_that_are_gone_for_good_are_an_error(first: Path, models_dir: Path) -> None:
    manifest = install_model(first, models_dir, "mine", version="1")
    (models_dir / "mine" / manifest.weights).unlink()

    with pytest.raises(ConfigurationError, match="install it again"):
        load_detector("mine", models_dir)


@pytest.mark.parametrize("sha256", ["", "abc", "g" * 64, "0" * 63])
def test_what_is_no_digest_is_refused_before_anything_is_fetched(models_dir: Path, sha256: str) -> None:
    with pytest.raises(ConfigurationError, match="64 hexadecimal digits"):
        install_model("https://127.0.0.1:1/w.h5", models_dir, "mine", version="1", sha256=sha256)


@pytest.mark.parametrize("version", ["", "1\\2", "1\n2", "v\x1b[31m", " 1", "1 ", "ü", "1" * 65])
def test_a_version_that_results_cannot_bear_is_refused(first: Path, models_dir: Path, version: str) -> None:
    with pytest.raises(ConfigurationError, match="version: "):
        install_model(first, models_dir, "mine", version=version)
    assert list(models_dir.iterdir()) == []


@pytest.mark.parametrize("version", ["1", "2020", "1.2.0-rc1+cuda", "exp 1, fold 3/5"])
def test_a_version_is_what_its_maker_calls_it(first: Path, models_dir: Path, version: str) -> None:
    assert install_model(first, models_dir, "mine", version=version).version == version
