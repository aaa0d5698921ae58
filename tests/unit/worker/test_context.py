"""Holders of claims: a process is known by host, process id and start time."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import psutil

from worker.context import holder_is_gone, holder_name


def test_holders_are_known_by_more_than_their_number() -> None:
    assert not holder_is_gone(holder_name())
    host, pid, started = holder_name().rsplit("/", 2)
    assert holder_is_gone(f"{host}/{pid}/{int(started) - 1000}")
    assert holder_is_gone(f"{host}/4194304/1")
    assert not holder_is_gone(f"another-{host}/{pid}/1")
    assert not holder_is_gone("nonsense")


def test_a_holder_that_has_ended_is_gone_though_nobody_has_asked_how() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        holder = f"{socket.gethostname()}/{process.pid}/{int(psutil.Process(process.pid).create_time())}"
        assert not holder_is_gone(holder)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # leaves the zombie
        assert holder_is_gone(holder)
