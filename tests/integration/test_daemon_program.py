"""The daemon as a program: started, fed, stopped, killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread

from cli.program_health import NotifySocket
from cli.supervisor import Program, Supervisor
from config.settings import Settings
from corewatch.clock import utc_now
from corewatch.states import CaseState
from foundation.heartbeat import STALE_AFTER_S
from ledger.spool import ArrivalOutcome, ArrivalSource, ArrivalWriter
from ledger.store import Ledger
from tests.support import listener_program
from tests.support.listener import associate
from tests.support.manager import service_manager
from tests.support.net import answers, free_port
from tests.support.spool import head

DEADLINE_S = 60.0

PROGRAM = """
import sys
from pathlib import Path
from config.logging import configure_logging
from cli.supervisor import Program, Supervisor
from cli.program_health import NotifySocket
from config.settings import Settings
from corewatch.errors import RetryLater
from daemon.program import serve

settings = Settings.model_validate_json(sys.argv[1])
broker = settings.data_dir / "broker.txt"

def publish(work):
    if (settings.data_dir / "broker-is-down").exists():
        raise RetryLater("the broker cannot be reached")
    with broker.open("a") as file:
        file.write(f"{work.stage} {work.case_id}\\n")

configure_logging(settings.log, "watch")
serve(settings, publish)
"""


class Daemon:
    """One run of the program."""

    def __init__(self, settings: Settings, log: Path, environment: Mapping[str, str]) -> None:
        self.log = log
        self._file = log.open("a")
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, settings.model_dump_json()], stderr=self._file, env={**os.environ, **environment}
        )

    def says(self, text: str) -> bool:
        return text in self.log.read_text()

    def stop(self, number: int) -> int:
        self.process.send_signal(number)
        code = self.process.wait(DEADLINE_S)
        self._file.close()
        return code


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"no {what} within {DEADLINE_S:g} s"
        time.sleep(0.02)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    values = {
        "data_dir": str(tmp_path / "data"),
        "series": {"idle_s": 3, "grace_s": 0.3, "rules": [{"name": "cta-head", "min_slices": 8, "min_coverage_mm": 24}]},
        "watch": {"folders": [{"path": str(tmp_path / "inbox")}], "settle_s": 0.2, "rescan_s": 0.5},
        "deliver": {"folder": {"path": str(tmp_path / "results")}},
        "retention": {"free_gib": 0},
        "log": {"format": "json"},
    }
    return Settings.model_validate(values)


@pytest.fixture
def start(settings: Settings, tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    running: list[Daemon] = []

    def begin(other: Settings | None = None, **environment: str) -> Daemon:
        running.append(Daemon(other or settings, tmp_path / f"daemon-{len(running)}.log", environment))
        return running[-1]

    yield begin
    for daemon in running:
        if daemon.process.poll() is None:
            daemon.stop(signal.SIGKILL)


def published(settings: Settings) -> list[str]:
    path = settings.data_dir / "broker.txt"
    return path.read_text().splitlines() if path.exists() else []


def send(settings: Settings, series: str) -> None:
    writer = ArrivalWriter.open(settings.received_dir, ArrivalSource.C_STORE, peer_ae_title="PACS")
    for uid, data in head(series):
        writer.store_instance(uid, [data])
    writer.close(ArrivalOutcome.RELEASED)


def test_the_service_manager_is_notified_until_the_daemon_hangs(start: Callable[..., Daemon], tmp_path: Path) -> None:
    with service_manager(tmp_path, watchdog_s=2.0) as manager:
        daemon = start(**manager.environment)
        assert manager.next() == "READY=1"
        assert [manager.next() for _ in range(3)] == ["WATCHDOG=1"] * 3
        daemon.process.send_signal(signal.SIGSTOP)
        assert manager.falls_silent(), "systemd kills a program that does not notify it"
        daemon.process.send_signal(signal.SIGCONT)
        assert manager.next() == "WATCHDOG=1"
        assert daemon.stop(signal.SIGTERM) == 0
        while manager.next() != "STOPPING=1":
            continue


def test_a_supervisor_replaces_one_that_hangs(settings: Settings, start: Callable[..., Daemon]) -> None:
    watchdog, daemons = NotifySocket(limit_s=6.0), list[Daemon]()

    def begin() -> subprocess.Popen[bytes]:
        daemons.append(start(**watchdog.environment))
        return daemons[-1].process

    def kill(pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    supervisor = Supervisor([Program("watch", begin, 0, DEADLINE_S, watchdog)], kill=kill)

    def seen(condition: Callable[[], bool]) -> bool:
        supervisor.step()
        return condition()

    wait_for(lambda: seen(lambda: daemons[0].says('"ready"')), "ready line")
    os.kill(daemons[0].process.pid, signal.SIGSTOP)
    wait_for(lambda: seen(lambda: len(daemons) == 2 and daemons[1].says('"ready"')), "ready line of the next one")
    send(settings, "7")
    wait_for(lambda: seen(lambda: len(published(settings)) == 1), "published work")
    supervisor.stop()
    assert [daemon.process.returncode for daemon in daemons] == [-signal.SIGKILL, 0]


def test_from_ready_to_published_to_stopped(settings: Settings, start: Callable[..., Daemon]) -> None:
    daemon = start()
    wait_for(lambda: daemon.says('"ready"'), "ready line")
    send(settings, "7")
    wait_for(lambda: len(published(settings)) == 1, "published work")
    assert published(settings)[0].startswith("prepare ")
    assert daemon.stop(signal.SIGTERM) == 0
    events = [json.loads(line)["event"] for line in daemon.log.read_text().splitlines()]
    assert events[-1] == "stopped"
    assert not [line for line in daemon.log.read_text().splitlines() if '"error"' in line]


def test_interrupted_from_the_keyboard(settings: Settings, start: Callable[..., Daemon]) -> None:
    daemon = start()
    wait_for(lambda: daemon.says('"ready"'), "ready line")
    assert daemon.stop(signal.SIGINT) == 0
    assert daemon.says('"stopped"')


def test_a_second_daemon_for_the_folder_ends_with_a_clear_message(settings: Settings, start: Callable[..., Daemon]) -> None:
    first = start()
    wait_for(lambda: first.says('"ready"'), "ready line")
    second = start()
    assert second.process.wait(DEADLINE_S) != 0
    assert second.says(f"another corewatch daemon (process {first.process.pid})")
    assert first.process.poll() is None


def test_a_drop_is_queued_and_a_rejected_one_gets_its_case(
    settings: Settings, start: Callable[..., Daemon], tmp_path: Path
) -> None:
    daemon = start()
    wait_for(lambda: daemon.says('"ready"'), "ready line")
    drop = tmp_path / "series"
    drop.mkdir()
    for n, (_, data) in enumerate(head("7")):
        (drop / f"{n}.dcm").write_bytes(data)
    drop.rename(tmp_path / "inbox" / "series")
    wait_for(lambda: any(line.startswith("prepare ") for line in published(settings)), "published work")
    (tmp_path / "inbox" / "letter.dcm").write_bytes(b"this is no image")
    wait_for(lambda: any(line.startswith("deliver ") for line in published(settings)), "answer to the refused drop")
    ledger = Ledger(settings.database_url)
    assert {c.state for c in ledger.cases.find()} == {CaseState.QUEUED, CaseState.NOT_ANALYSED}
    ledger.close()


@pytest.mark.slow
def test_repeated_kills_lose_nothing(settings: Settings, start: Callable[..., Daemon]) -> None:
    names = [str(100 + n) for n in range(8)]
    for n, series in enumerate(names):
        daemon = start()
        send(settings, series)
        until = time.monotonic() + 0.4 + 0.25 * n
        wait_for(lambda until=until: time.monotonic() > until, "moment")  # type: ignore[misc]
        daemon.stop(signal.SIGKILL)
    down = settings.data_dir / "broker-is-down"
    down.touch()
    start()
    ledger = Ledger(settings.database_url, utc_now)
    wait_for(lambda: len(ledger.cases.find(states=[CaseState.QUEUED])) == len(names), "queue with every series in it")
    down.unlink()
    wait_for(lambda: len(set(published(settings))) == len(names), "publication of every case")
    assert len(ledger.cases.find()) == len(names)
    ledger.close()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["power cut", "suspended"])
def test_half_a_series_waits_for_the_rest_when_both_programs_were_gone(
    settings: Settings, start: Callable[..., Daemon], tmp_path: Path, how: signal.Signals
) -> None:
    port = free_port()
    listener = settings.listener.model_copy(update={"port": port, "host": "127.0.0.1"})
    idle_s = STALE_AFTER_S + 1
    series = settings.series.model_copy(update={"idle_s": idle_s})
    settings = settings.model_copy(update={"listener": listener, "series": series})
    ledger = Ledger(settings.database_url)
    images = [dcmread(BytesIO(data)) for _, data in head()]

    def states() -> list[CaseState]:
        return [case.state for case in ledger.cases.find()]

    with ExitStack() as stack:

        def listen() -> subprocess.Popen[bytes]:
            arguments = [sys.executable, "-c", listener_program.PROGRAM, settings.model_dump_json(), "{}"]
            process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)
            wait_for(lambda: answers(port), "listener")
            return process

        stack.callback(ledger.close)
        daemon, receiver = start(settings), listen()
        association = associate(port)
        association.network_timeout = None
        assert all(association.send_c_store(image).Status == 0 for image in images[:9])
        wait_for(lambda: states() == [CaseState.RECEIVING], "case")
        for process in (daemon.process, receiver):
            process.send_signal(how)
        time.sleep(idle_s + 1.0)  # the outage itself is what is tested
        if how is signal.SIGKILL:
            association.abort()
            daemon.process.wait()
            receiver.wait()
            daemon = start(settings)
            wait_for(lambda: daemon.says('"ready"'), "daemon")
            listen()
        else:
            daemon.process.send_signal(signal.SIGCONT)
            time.sleep(1.0)  # the daemon wakes first
            receiver.send_signal(signal.SIGCONT)
        awake = time.monotonic() + (idle_s + 2 if how is signal.SIGKILL else 2)
        while time.monotonic() < awake:
            assert states() == [CaseState.RECEIVING]
            time.sleep(0.2)
        if how is signal.SIGKILL:
            association = associate(port)
        assert all(association.send_c_store(image).Status == 0 for image in images)
        association.release()
        wait_for(lambda: states() == [CaseState.QUEUED], "queued case")
        assert len(ledger.cases.instance_paths(ledger.cases.find()[0])) == len(images)
