"""On a GPU: the same numbers, really computed there, with memory taken as needed. Runs where the driver shows a device."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cli.checks.analysis import gpus
from corewatch.errors import ConfigurationError
from worker.models import install_model
from worker.models.adapters import ADAPTERS
from worker.models.device_probe import probe
from worker.models.registry import BUILTIN_DIR

WEIGHTS = BUILTIN_DIR / "phantom-demo" / "weights.h5"

PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np
from worker.models.adapters import ADAPTERS
from worker.models.hemispheres import split
from worker.models.weights import read_weights
from worker.models.deepsymnet import DeepSymNet
import tensorflow as tf

pairs = split(np.random.default_rng(5).integers(0, 101, (146, 182, 133), dtype=np.uint8))[np.newaxis]
answers = {}
for device in ("cpu", "gpu"):
    network = DeepSymNet(read_weights(Path(sys.argv[1])), device)
    with tf.device(network._device):
        volumes, gradients = network._forward_and_gradients(tf.constant(pairs))
    answers[device] = (volumes.numpy().tolist(), gradients.numpy(), volumes.device)
memory = tf.config.experimental.get_memory_info("GPU:0")
growth = [tf.config.experimental.get_memory_growth(gpu) for gpu in tf.config.get_visible_devices("GPU")]
off = float(np.linalg.norm(answers["gpu"][1] - answers["cpu"][1]) / np.linalg.norm(answers["cpu"][1]))
print(json.dumps({"volumes": [answers[d][0] for d in ("cpu", "gpu")], "devices": [answers[d][2] for d in ("cpu", "gpu")],
    "gradient_off": off, "growth": growth, "peak": memory["peak"]}))
"""


FIDELITY = """
import json, sys
from pathlib import Path
import nibabel as nib
import numpy as np
from worker.models import install_model, load_detector

reference, models, device = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
[weights] = reference.glob("*.hdf5")
install_model(weights, models, "published", version="2020")
head, expected = (np.asarray(nib.load(reference / f"sub-0151_{name}.nii.gz").dataobj, np.uint8) for name in ("aligned", "core_map"))
detection = load_detector("published", models, device=device, perturbations=0).detect(head, alert_ml=20.0)
off = np.abs(detection.core_map.astype(int) - expected)
finding = detection.finding
print(json.dumps({"core_ml": finding.core_ml, "side": finding.side, "most": int(off.max()), "share": float((off > 0).mean())}))
"""


LEAVES_IT_ALONE = """
import json
from pathlib import Path
from worker.models import load_detector
load_detector("phantom-demo", Path()).warm_up()
import tensorflow as tf
print(json.dumps([device.name for device in tf.config.list_logical_devices("GPU")]))
"""


@pytest.fixture(scope="module")
def found() -> int:
    return gpus()


@pytest.mark.gpu
@pytest.mark.slow
def test_the_gpu_computes_what_the_processor_computes(found: int) -> None:
    if not found:
        pytest.skip("the driver shows no GPU here")

    done = subprocess.run([sys.executable, "-c", PROGRAM, str(WEIGHTS)], capture_output=True, text=True, timeout=280, check=True)

    said = json.loads(done.stdout.splitlines()[-1])
    [[on_cpu], [on_gpu]] = said["volumes"]
    assert on_gpu == pytest.approx(on_cpu, abs=0.01)
    assert said["gradient_off"] < 0.05
    assert "CPU" in said["devices"][0]
    assert "GPU" in said["devices"][1]
    assert said["growth"] == [True], "one device, and only the memory that is needed"
    assert 0 < said["peak"] < 4 * 1024**3


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def test_the_published_case_is_the_published_codes_on_each_device(device: str, found: int, shared: Path, tmp_path: Path) -> None:
    if device == "gpu" and not found:
        pytest.skip("the driver shows no GPU here")

    command = [sys.executable, "-c", FIDELITY, str(shared / "reference" / "deepsymnet"), str(tmp_path), device]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=True)

    said = json.loads(done.stdout.splitlines()[-1])
    assert said["core_ml"] == pytest.approx(22.936975, abs=0.01)
    assert said["side"] == "right"
    assert said["most"] <= 1
    assert said["share"] <= 0.001


@pytest.mark.gpu
@pytest.mark.slow
def test_a_worker_on_the_processor_takes_no_gpu_memory(found: int) -> None:
    if not found:
        pytest.skip("the driver shows no GPU here")

    done = subprocess.run([sys.executable, "-c", LEAVES_IT_ALONE], capture_output=True, text=True, timeout=280, check=True)

    assert json.loads(done.stdout.splitlines()[-1]) == []


@pytest.mark.slow
def test_on_the_processor_every_gpu_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden: list[tuple[object, ...]] = []
    monkeypatch.setattr("tensorflow.config.set_visible_devices", lambda *given: hidden.append(given))

    ADAPTERS["deepsymnet"].load(WEIGHTS, "cpu")

    assert hidden == [([], "GPU")]


@pytest.mark.slow
def test_without_a_gpu_the_gpu_is_an_error_and_never_the_processor_instead(found: int, tmp_path: Path) -> None:
    if found:
        pytest.skip("there is a GPU here")
    from worker.models.registry import load_detector

    install_model(WEIGHTS, tmp_path, "copy", version="1")

    with pytest.raises(ConfigurationError, match="finds no GPU"):
        load_detector("copy", tmp_path, device="gpu")
    said = probe("gpu")
    assert said is not None
    assert "finds no GPU" in said
