"""`corewatch run` as a program: what stands on standard output is one JSON object and nothing else."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from cli.children import own_command, own_environment
from corewatch import RESEARCH_LABEL

pytestmark = pytest.mark.slow


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = own_command(None, ["run", *arguments])
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=own_environment({}), check=False)


def test_a_series_that_is_no_ct_exits_with_3_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "note.txt").write_text("not an image")
    done = run(str(tmp_path / "in"), "--out", str(tmp_path / "out"))
    assert done.returncode == 3, done.stderr
    answer = json.loads(done.stdout)
    assert answer["state"] == "not_analysed"
    assert answer["reason"]
    assert answer["notice"] == RESEARCH_LABEL
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == answer


def test_an_input_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    done = run(str(tmp_path / "absent"), "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
