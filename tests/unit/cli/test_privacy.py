"""Files about patients are closed to other users, however a program was started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cli.privacy import keep_private

TELL_UMASK = "import os, sys, cli.main as m; m.corewatch = lambda **_: print(oct(os.umask(0))); m.main()"


@pytest.mark.parametrize(("before", "after"), [(0o000, "0o27"), (0o022, "0o27"), (0o077, "0o77")])
def test_every_command_begins_with_a_strict_umask(before: int, after: str) -> None:
    done = subprocess.run([sys.executable, "-c", TELL_UMASK], umask=before, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == after


@pytest.mark.parametrize(("before", "after"), [(0o755, 0o750), (0o777, 0o750), (0o700, 0o700), (0o2775, 0o2750)])
def test_an_open_data_folder_is_closed(tmp_path: Path, before: int, after: int) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(before)
    keep_private(folder)
    assert folder.stat().st_mode & 0o7777 == after


def test_a_missing_data_folder_is_made_closed(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "data"
    keep_private(folder)
    assert folder.stat().st_mode & 0o077 == 0


def test_a_folder_of_someone_else_is_left_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o755)
    monkeypatch.setattr("os.geteuid", lambda: tmp_path.stat().st_uid + 1)
    keep_private(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    assert "open to other users" in caplog.text
