"""Doctor's trial of the detector: whatever becomes of the process that loads a model, it is said in one line."""

from __future__ import annotations

import re
import sys

import pytest

from worker.models.adapters import Device
from worker.models.device_probe import probe


@pytest.mark.slow
def test_a_model_loads_on_the_processor() -> None:
    assert probe("cpu") is None


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "ended by SIGILL"),
        ("import no_such_library", "No module named 'no_such_library'"),
        ("print('noise'); print('the GPU is away'); raise SystemExit(1)", "^the GPU is away$"),
        ("raise SystemExit(7)", "exit code 7"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(program: str, problem: str) -> None:
    said = probe("gpu", command=[sys.executable, "-c", program])

    assert said is not None
    assert "\n" not in said
    assert re.search(problem, said)


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_the_device_is_passed_on(device: Device) -> None:
    assert probe(device, command=[sys.executable, "-c", "import sys; print(sys.argv[1]); sys.exit(1)"]) == device


def test_a_driver_that_hangs_is_given_up() -> None:
    program = "import time; time.sleep(600)"

    assert probe("gpu", command=[sys.executable, "-c", program], limit_s=1.0) == "loading a model takes longer than 1 s"
