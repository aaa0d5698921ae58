"""Runs the tests of one mutant in a forked process, in a copy of the tree.

The parent imports only libraries, so that a fork finds them loaded and reads our modules, one of them mutated, from the copy.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

import hypothesis
import psutil
import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
_LIBRARIES: Final = ("numpy", "scipy.ndimage", "pydicom", "nibabel", "sqlalchemy", "structlog", "pydantic", "PIL.Image")
_PR_SET_CHILD_SUBREAPER: Final = 36


class Verdict(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    TIMEOUT = "timeout"
    """The tests did not end: counts as killed."""
    SURVIVED = "survived"


def prepare() -> None:
    """Load the libraries, and become the parent of whatever the tests leave behind."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # threads do not survive a fork
    for name in _LIBRARIES:
        importlib.import_module(name)
    # a failing example is enough: nobody reads the smallest one
    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
    hypothesis.settings.register_profile("mutation", deadline=None, derandomize=True, database=None, phases=phases)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@contextlib.contextmanager
def copied_tree(into: Path) -> Iterator[Path]:
    """A copy of the working tree, as git sees it, with the shared reference data beside it."""
    tree = into / "tree"
    listed = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    if (ROOT.parent / "shared").is_dir():
        (into / "shared").symlink_to(ROOT.parent / "shared", target_is_directory=True)
    if (ROOT / ".venv").exists():
        (tree / ".venv").symlink_to((ROOT / ".venv").resolve(), target_is_directory=True)
    yield tree


def write_source(path: Path, text: bytes) -> None:
    """Write a module so that no stale bytecode of it is used."""
    path.write_bytes(text)
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        compiled.unlink()


def run_tests(tree: Path, tests: Sequence[str], limit_s: float) -> tuple[Verdict, float]:
    """Run `tests` in `tree` until the first failure, for at most `limit_s`. Returns what became of it, and the seconds."""
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _run_in_child(tree, tests)
    verdict = Verdict.TIMEOUT
    while time.monotonic() - started < limit_s:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            verdict = Verdict.SURVIVED if status == 0 else Verdict.KILLED
            break
        time.sleep(0.02)
    _end_descendants()
    return verdict, time.monotonic() - started


def _run_in_child(tree: Path, tests: Sequence[str]) -> None:
    code = 1
    try:
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(quiet, stream)
        for name in [name for name in sys.modules if name.split(".")[0] == "tests"]:
            del sys.modules[name]
        os.chdir(tree)
        os.environ["PYTHONPATH"] = str(tree)
        sys.path[:] = [str(tree), *(entry for entry in sys.path if entry not in ("", str(ROOT)))]
        options = ["-x", "-q", "-p", "no:cacheprovider", "-n", "0", "--hypothesis-profile=mutation"]
        code = int(pytest.main([*options, *tests]))
    finally:
        os._exit(code)


def _end_descendants() -> None:
    """End what the tests left running; each is a descendant of this process."""
    for _ in range(20):
        left = psutil.Process().children(recursive=True)
        if not left:
            return
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.05)
