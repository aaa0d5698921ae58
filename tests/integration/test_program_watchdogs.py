"""Every program of `corewatch up` reports that it works: one that is stopped is noticed, one without its broker goes on."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
import yaml

from cli.children import own_environment, programs
from cli.program_health import NotifySocket
from cli.supervisor import kill_group
from jobs.embedded import EmbeddedRedis
from tests.support.net import free_port, wait_for

START_S = 90.0
LIMIT_S = 5.0


def test_a_stopped_worker_or_monitor_is_noticed_and_a_hung_redis_restarts_no_worker(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Takes about 20 s: two programs start, and twice the watchdog's limit passes. Every line that they write is JSON."""
    redis = EmbeddedRedis(tmp_path / "redis")
    file = tmp_path / "corewatch.yaml"
    file.write_text(
        yaml.safe_dump(
            {"data_dir": "./data", "broker": {"url": redis.start()}, "flower": {"port": free_port()}, "log": {"format": "json"}}
        )
    )
    environment = {k: v for k, v in own_environment({}).items() if not k.startswith("COREWATCH__")}
    watched = programs(file, environment, portal=True, watchdog_limit_s=LIMIT_S)
    watchdogs = {program.name: program.watchdog for program in watched}
    assert all(isinstance(watchdog, NotifySocket) for watchdog in watchdogs.values())
    pids = {program.name: program.start().pid for program in watched if program.name in {"work-prepare", "flower"}}

    def hangs(name: str) -> bool:
        watchdog = watchdogs[name]
        return watchdog is not None and watchdog.hangs()

    def is_ready(name: str) -> bool:
        watchdog = watchdogs[name]
        return isinstance(watchdog, NotifySocket) and not watchdog.hangs() and watchdog.has_reported

    try:
        for name in pids:
            wait_for(f"{name} to be ready", lambda name=name: is_ready(name), START_S)  # type: ignore[misc]
        assert redis.process is not None
        redis.process.send_signal(signal.SIGSTOP)
        until = time.monotonic() + 2 * LIMIT_S
        while time.monotonic() < until:
            assert not any(hangs(name) for name in pids)
            time.sleep(0.2)
        for pid in pids.values():
            os.kill(pid, signal.SIGSTOP)
        for name in pids:
            wait_for(f"{name} to hang", lambda name=name: hangs(name), 3 * LIMIT_S)  # type: ignore[misc]
        lines = capfd.readouterr().err.splitlines()
        assert {json.loads(line)["program"] for line in lines} >= {"flower"}
    finally:
        for pid in pids.values():
            kill_group(pid)
        if redis.process is not None:
            redis.process.send_signal(signal.SIGCONT)
        redis.stop()
        for watchdog in watchdogs.values():
            if watchdog is not None:
                watchdog.close()
