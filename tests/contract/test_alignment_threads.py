"""The same stack gives the same bytes, whatever the number of threads of whatever library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from corewatch.findings import Side
from phantom.head import HeadSpec, make_head
from phantom.scan import Acquisition, place, slabs

pytestmark = pytest.mark.slow

_ALIGN = """
import hashlib, sys
import numpy as np
from conversion.alignment import align
from corewatch.volumes import ScannerVolume
stored = np.load(sys.argv[1])
head = align(ScannerVolume(stored["hu"].transpose(2, 1, 0), stored["voxel_to_lps"]), threads=int(sys.argv[2]))
said = hashlib.sha256(head.hu.tobytes() + head.lps_to_voxel.tobytes() + repr(head.quality).encode())
print(said.hexdigest())
"""
_COUNTS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    head = make_head(HeadSpec(8, 30.0, Side.LEFT))
    scan = place(head, Acquisition(100, 220.0, 192, 1.28, 15.0, 12.0, seed=4))
    path = tmp_path_factory.mktemp("stack") / "stack.npz"
    np.savez(path, hu=np.concatenate([hu for _, hu in slabs(head, scan)]), voxel_to_lps=scan.voxel_to_lps)
    return path


def digest(stored: Path, libraries: int, ours: int) -> str:
    environment = os.environ | dict.fromkeys(_COUNTS, str(libraries))
    command = [sys.executable, "-c", _ALIGN, str(stored), str(ours)]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=120).stdout.strip()


def test_a_fresh_process_with_other_thread_counts_gives_the_same_bytes(stored: Path) -> None:
    found = {(libraries, ours): digest(stored, libraries, ours) for libraries in (1, 2) for ours in (1, 2)}
    assert len(set(found.values())) == 1, found
    assert all(len(value) == 64 for value in found.values())
