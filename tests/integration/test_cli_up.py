"""`corewatch up` with real programs: faults are injected by killing them."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest
import yaml

from cli.children import own_command, own_environment
from jobs.embedded import answers, running_url
from tests.support.net import free_port, wait_for

pytestmark = pytest.mark.slow
START_S = 180.0


class Up:
    """A running `corewatch up`; its standard output goes into a file."""

    def __init__(self, folder: Path, *, stdout_closed: bool = False) -> None:
        self.folder = folder
        self.file = folder / "corewatch.yaml"
        self.data = folder / "data"
        self.out, self.log = folder / "out.json", folder / "up.log"
        if not self.file.exists():
            self.ports = {"listen": free_port(), "flower": free_port()}
            settings = {
                "data_dir": "./data",
                "listener": {"host": "127.0.0.1", "port": self.ports["listen"]},
                "watch": {"folders": [{"path": "./inbox"}]},
                "deliver": {"folder": {"path": "./results"}},
                "flower": {"port": self.ports["flower"]},
            }
            self.file.write_text(yaml.safe_dump(settings))
        command = own_command(self.file, ["up", "--json"])
        if stdout_closed:
            command = ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *command]
        environment = {k: v for k, v in own_environment({}).items() if not k.startswith("COREWATCH__")}
        with self.out.open("wb") as out, self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=out, stderr=log, env=environment, stdin=subprocess.DEVNULL)

    def wait_until_ready(self) -> dict[str, object]:
        addresses: dict[str, object] = json.loads(wait_for("the addresses", self._answer, START_S))
        return addresses

    def _answer(self) -> str | None:
        assert self.process.poll() is None, self.log.read_text()[-4000:]
        text = self.out.read_text()
        return text if text.endswith("\n") else None

    def children(self) -> dict[str, psutil.Process]:
        """The programs by name; those that `corewatch up` started itself."""
        found = {}
        for child in psutil.Process(self.process.pid).children():
            try:
                line = child.cmdline()
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
            if line and "redis-server" in line[0]:
                found["redis"] = child
            elif "cli" in line and str(self.file) in line:
                found["-".join(line[line.index(str(self.file)) + 1 :]).replace("--queues-", "")] = child
        return found

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(120)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    running = Up(tmp_path)
    yield running
    running.end()


def all_gone(processes: list[psutil.Process], seconds: float) -> bool:
    _gone, alive = psutil.wait_procs(processes, seconds)
    return not alive


def test_programs_come_back_and_all_stop_in_order(up: Up) -> None:
    addresses = up.wait_until_ready()
    assert str(addresses["listener"]).endswith(str(up.ports["listen"]))
    assert up.data.stat().st_mode & 0o077 == 0
    children = up.children()
    assert set(children) == {"redis", "listen", "watch", "work-prepare", "work-detect", "work-deliver", "flower"}

    # no secret where other users of the machine can read it
    url = running_url(up.data / "redis")
    assert url is not None
    password = (up.data / "flower-password").read_text().strip()
    secrets = (url.split("@")[0].rsplit(":", 1)[1], password)
    lines = [" ".join(p.cmdline()) for p in psutil.Process(up.process.pid).children(recursive=True)]
    assert not [line for line in lines if any(secret in line for secret in secrets)]

    # the monitor asks for its password and shows the workers
    monitor = f"http://127.0.0.1:{up.ports['flower']}/api/workers"
    with pytest.raises(HTTPError) as refused:
        urlopen(monitor, timeout=10)
    assert refused.value.code == 401
    token = base64.b64encode(f"corewatch:{password}".encode()).decode()
    with urlopen(Request(monitor, headers={"Authorization": f"Basic {token}"}), timeout=10) as response:
        assert response.status == 200

    # a second one on the same data folder is refused
    second = subprocess.run(own_command(up.file, ["up"]), capture_output=True, text=True, timeout=60, env=own_environment({}))
    assert second.returncode == 2
    assert f"another `corewatch up` (process {up.process.pid})" in second.stderr

    # a program that dies comes back; the queue comes back under the same address
    for name in ("watch", "redis", "work-deliver"):
        children[name].kill()
    for name in ("watch", "redis", "work-deliver"):
        old = children[name].pid
        wait_for(f"{name} to come back", lambda n=name, o=old: up.children().get(n, children[n]).pid != o, 60)
    wait_for("the queue", lambda: answers(url), 30)
    assert running_url(up.data / "redis") == url

    family = psutil.Process(up.process.pid).children(recursive=True)
    up.process.terminate()
    assert up.process.wait(120) == 0, up.log.read_text()[-4000:]
    assert all_gone(family, 5)
    assert running_url(up.data / "redis") is None
    stopped = [line.split("event='")[1].split(" stopped")[0] for line in up.log.read_text().splitlines() if " stopped' " in line]
    assert [name for name in stopped if name in children][-7:][:2] == ["listen", "watch"]
    assert stopped[-2:] == ["flower", "redis"]


def test_nothing_outlives_a_killed_supervisor_and_a_new_one_takes_over(up: Up) -> None:
    up.wait_until_ready()
    family = psutil.Process(up.process.pid).children(recursive=True)
    up.process.kill()
    up.process.wait()
    assert all_gone(family, 60), [p for p in family if p.is_running()]
    successor = Up(up.folder)
    try:
        successor.wait_until_ready()
        url = running_url(up.data / "redis")
        assert url is not None
        assert answers(url)
    finally:
        successor.end()
    assert successor.process.returncode == 0


def test_a_closed_standard_output_does_no_harm(tmp_path: Path) -> None:
    running = Up(tmp_path, stdout_closed=True)
    try:
        wait_for("ready in the log", lambda: "event='ready: " in running.log.read_text(), START_S)
        assert running.process.poll() is None
    finally:
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(120) == 0


def test_a_port_that_is_taken_is_tried_again_until_it_is_free(tmp_path: Path) -> None:
    script = (
        "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); print(s.getsockname()[1], flush=True); input()"
    )
    blocker = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    assert blocker.stdout is not None
    port = int(blocker.stdout.readline())
    (tmp_path / "corewatch.yaml").write_text(
        yaml.safe_dump({"listener": {"host": "127.0.0.1", "port": port}, "flower": {"port": free_port()}, "watch": {"folders": []}})
    )
    running = Up(tmp_path)
    try:
        wait_for("the complaint", lambda: "listen ended with exit code 2" in running.log.read_text(), START_S)
        blocker.kill()
        blocker.wait()
        running.wait_until_ready()
    finally:
        blocker.kill()
        blocker.wait()
        blocker.stdout.close()
        if blocker.stdin is not None:
            blocker.stdin.close()
        running.end()
    assert running.process.returncode == 0
