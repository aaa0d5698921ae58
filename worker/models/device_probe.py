"""Probe of the device: load a model in a separate process: ``python -m worker.models.device_probe DEVICE``.

TensorFlow stays in the process that imports it, and ends that process where processor or driver do not suit it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from corewatch.errors import ConfigurationError
from corewatch.findings import DEMONSTRATION_MODELS
from worker.models.adapters import Device
from worker.models.registry import load_detector

LIMIT_S: Final = 120.0
"""Time limit in seconds. Loading takes a few seconds, on a busy machine longer."""


PROGRAM: Final = (sys.executable, "-P", "-m", "worker.models.device_probe")


def probe(
    device: Device, environment: Mapping[str, str] = os.environ, *, command: Sequence[str] = PROGRAM, limit_s: float = LIMIT_S
) -> str | None:
    """Load the built-in model on `device` in a separate process; returns the problem in one line for people, or None.

    Parameters
    ----------
    environment
        Environment of that process, in which corewatch can be imported.
    command
        The program; the device is appended.
    """
    try:
        done = subprocess.run(
            [*command, device], env=dict(environment), capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        return f"loading a model takes longer than {limit_s:.0f} s"
    if done.returncode < 0:
        return f"the process that loads a model is ended by {signal.Signals(-done.returncode).name}"
    if done.returncode:
        return (done.stdout.strip() or done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
    return None


def main(arguments: Sequence[str]) -> int:
    """Run from the command line; prints the problem."""
    device: Device = "gpu" if arguments[0] == "gpu" else "cpu"
    try:
        load_detector(min(DEMONSTRATION_MODELS), Path(), device=device)
    except (ConfigurationError, ImportError) as error:
        sys.stdout.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
