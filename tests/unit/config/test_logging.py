"""Logging: every line is a line of the log, in JSON or with the journal's priority."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.children import own_environment

PROGRAM = """
import logging, os, sys, threading, warnings
if {journal}:
    status = os.fstat(2)
    os.environ["JOURNAL_STREAM"] = f"{{status.st_dev}}:{{status.st_ino}}"
from config.logging import configure_logging
from config.settings import LogSettings
configure_logging(LogSettings(format="{format}"), "test")
logging.getLogger("x").info("two\\nlines")
logging.getLogger("x").warning("careful")
warnings.warn("old")
def fail():
    raise ValueError("in a thread")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
raise RuntimeError("at the end")
"""


def lines_of(tmp_path: Path, *, style: str, journal: bool) -> list[str]:
    file = tmp_path / "program.py"
    file.write_text(PROGRAM.format(format=style, journal=journal))
    environment = {name: value for name, value in own_environment({}).items() if name != "JOURNAL_STREAM"}
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == 1
    return done.stderr.splitlines()


def test_every_line_is_json(tmp_path: Path) -> None:
    events = [json.loads(line) for line in lines_of(tmp_path, style="json", journal=False)]
    assert [event["level"] for event in events] == ["info", "warning", "warning", "critical", "critical"]
    assert all(event["program"] == "test" for event in events)
    assert "in a thread" in events[3]["exception"]
    assert "at the end" in events[4]["exception"]


@pytest.mark.parametrize("style", ["text", "json"])
def test_lines_for_the_journal_begin_with_their_priority(tmp_path: Path, style: str) -> None:
    lines = lines_of(tmp_path, style=style, journal=True)
    assert [line[:3] for line in lines] == ["<6>", "<4>", "<4>", "<2>", "<2>"]
    assert style == "text" or all(json.loads(line[3:]) for line in lines)


def test_a_redirected_stream_is_not_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import config.logging as module

    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    assert not module._stderr_is_journal()
    status = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    assert module._stderr_is_journal()
