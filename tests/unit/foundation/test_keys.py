"""Keys of the installation's own."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from corewatch.errors import ConfigurationError
from foundation.keys import installation_key


def test_one_key_per_purpose_that_stays(tmp_path: Path) -> None:
    first = installation_key(tmp_path / "data", "links")
    assert len(first) == 32
    assert installation_key(tmp_path / "data", "links") == first
    assert installation_key(tmp_path / "data", "threads") != first
    assert installation_key(tmp_path / "other", "links") != first


def test_only_the_owner_reads_it(tmp_path: Path) -> None:
    installation_key(tmp_path, "links")
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_programs_that_start_together_get_the_same(tmp_path: Path) -> None:
    found: list[bytes] = []
    barrier = threading.Barrier(8)

    def make() -> None:
        barrier.wait()
        found.append(installation_key(tmp_path, "links"))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["own.key"]


def test_a_damaged_key_is_said(tmp_path: Path) -> None:
    (tmp_path / "own.key").write_bytes(b"short")
    with pytest.raises(ConfigurationError, match=r"own\.key"):
        installation_key(tmp_path, "links")
