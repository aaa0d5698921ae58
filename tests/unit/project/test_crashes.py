"""A test process that crashes or hangs ends the run, under the options of `pyproject.toml`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
KILLED = """
import os, signal, time
import pytest

@pytest.mark.parametrize("number", range(200))
def test_one(number):
    time.sleep(0.05)
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
"""
HANGS = """
import signal

def test_hangs_where_no_signal_is_handled():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    signal.sigwait([signal.SIGUSR1])
"""


def run(folder: Path, content: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(content)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        str(ROOT / "pyproject.toml"),
        "--rootdir",
        str(folder),
        "-p",
        "no:cacheprovider",
    ]
    return subprocess.run(
        [*command, "-q", "-n", "2", *options, str(folder)], capture_output=True, text=True, timeout=240, check=False
    )


@pytest.mark.parametrize("distribution", ["load", "loadfile"])
def test_a_crash_ends_the_run(tmp_path: Path, distribution: str) -> None:
    done = run(tmp_path, KILLED, "--dist", distribution)
    assert done.returncode == 1
    assert "crashed while running 'test_it.py::test_one[3]'" in done.stdout
    assert "1 failed" in done.stdout
    assert "replacing crashed worker" not in done.stdout
    ran = int(done.stdout.split(" passed")[0].split()[-1])
    assert ran < 150


def test_a_test_that_cannot_be_interrupted_ends_the_run(tmp_path: Path) -> None:
    done = run(tmp_path, HANGS, "-o", "faulthandler_timeout=5", "-o", "timeout=2")
    assert done.returncode == 1
    assert "crashed while running" in done.stdout
