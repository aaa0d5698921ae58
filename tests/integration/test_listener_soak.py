"""A short soak: the long one is `python -m benchmarks.soak`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_memory_threads_and_descriptors_do_not_grow() -> None:
    options = ["--instances", "3000", "--associations", "300", "--size", "32"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", *options], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3000 images" in done.stdout
