"""Locks between processes: one holder, named in the error, released by the kernel."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from corewatch.errors import ConfigurationError
from foundation.lock import DAEMON_LOCK, UP_LOCK, LifeLock, holder_is_gone, is_locked, locked, sole_program

ROOT = Path(__file__).resolve().parents[3]
WAIT_S = 30
HOLD = (
    "import sys, time; from pathlib import Path; from foundation.lock import locked, sole_program\n"
    "with {how}:\n    print('held', flush=True)\n    sys.stdin.readline()"
)


def holder(how: str, path: Path) -> subprocess.Popen[str]:
    code = HOLD.format(how=how.format(path=str(path)))
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_one_program_per_data_folder(tmp_path: Path) -> None:
    with (
        sole_program(tmp_path, DAEMON_LOCK, "daemon"),
        pytest.raises(ConfigurationError, match=rf"data_dir: another daemon \(process {os.getpid()}\)") as raised,
        sole_program(tmp_path, DAEMON_LOCK, "daemon"),
    ):
        pass
    assert raised.value.remedy
    with sole_program(tmp_path, DAEMON_LOCK, "daemon"), sole_program(tmp_path, UP_LOCK, "up"):
        assert (tmp_path / DAEMON_LOCK).read_text() == f"{os.getpid()}\n"


def test_a_killed_program_leaves_no_lock(tmp_path: Path) -> None:
    with holder("sole_program(Path({path!r}), 'up.lock', 'up')", tmp_path) as other:
        with pytest.raises(ConfigurationError, match=f"process {other.pid}"), sole_program(tmp_path, UP_LOCK, "up"):
            pass
        other.kill()
        other.wait(WAIT_S)
    with sole_program(tmp_path, UP_LOCK, "up"):
        pass


def test_a_program_that_the_holder_starts_does_not_keep_the_lock(tmp_path: Path) -> None:
    with sole_program(tmp_path, UP_LOCK, "up"):
        program = [sys.executable, "-c", "print('runs', flush=True); input()"]
        child = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False)
        assert child.stdout is not None
        assert child.stdout.readline() == b"runs\n"
    try:
        with sole_program(tmp_path, UP_LOCK, "up"):
            pass
    finally:
        child.communicate(b"\n", timeout=WAIT_S)


def test_a_folder_that_cannot_be_made_is_an_error_of_data_dir(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="data_dir"), sole_program(tmp_path / "file" / "data", UP_LOCK, "up"):
        pass


def test_a_folder_is_held_by_one(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    with holder("locked(Path({path!r}))", tmp_path) as other:
        assert is_locked(tmp_path)
        with pytest.raises(BlockingIOError), locked(tmp_path, wait=False):
            pass
        other.communicate("\n", timeout=WAIT_S)
    assert not is_locked(tmp_path)
    with locked(tmp_path):
        pass


def test_a_folder_that_was_removed_counts_as_held(tmp_path: Path) -> None:
    assert is_locked(tmp_path / "gone")


def test_a_life_lock_shows_whether_its_holder_lives(tmp_path: Path) -> None:
    path = tmp_path / "writer.lock"
    assert not holder_is_gone(path), "nothing is known"
    held = LifeLock(path)
    assert not holder_is_gone(path)
    left = path.with_name("other.lock")
    LifeLock(left).abandon()
    assert holder_is_gone(left)
    held.release()
    held.release()
    assert not path.exists()


def test_a_file_system_without_locks_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("foundation.lock.fcntl.flock", refuse)
    LifeLock(tmp_path / "writer.lock")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "old.lock").touch()
    assert not holder_is_gone(tmp_path / "old.lock")
