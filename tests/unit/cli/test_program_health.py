"""Health of the programs: watchdog messages, listener probe, readiness."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import cli.program_health
from cli.program_health import (
    FAILED_PROBES,
    PROBE_EVERY_S,
    WATCHDOG_LIMIT_S,
    NotifySocket,
    Probe,
    listener_answers,
    listens,
    not_ready,
)
from config.intake import ListenerSettings
from config.section import TlsFiles
from config.settings import Settings
from foundation.service_manager import ServiceManager
from tests.support.late import wake_late
from tests.support.listener import listener_settings, running


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watchdog(clock: Clock) -> Iterator[NotifySocket]:
    made = NotifySocket(clock=clock)
    yield made
    made.close()


def test_a_program_hangs_when_it_has_said_nothing_for_the_limit(watchdog: NotifySocket, clock: Clock) -> None:
    program = ServiceManager(watchdog.environment, clock)
    program.ready()
    for _ in range(20):
        clock.now += WATCHDOG_LIMIT_S / 4
        program.alive()
        assert not watchdog.hangs()
    clock.now += WATCHDOG_LIMIT_S - 1
    assert not watchdog.hangs()
    clock.now += 1
    assert watchdog.hangs()


def test_one_that_is_not_ready_yet_or_stops_is_waited_for(watchdog: NotifySocket, clock: Clock) -> None:
    clock.now += 10 * WATCHDOG_LIMIT_S
    assert not watchdog.hangs()
    program = ServiceManager(watchdog.environment, clock)
    program.ready()
    program.stopping()
    assert not watchdog.hangs()
    clock.now += 10 * WATCHDOG_LIMIT_S
    assert not watchdog.hangs()


def test_the_next_process_has_said_nothing_yet(watchdog: NotifySocket, clock: Clock) -> None:
    ServiceManager(watchdog.environment, clock).ready()
    assert not watchdog.hangs()
    ServiceManager(watchdog.environment, clock).ready()  # unread
    watchdog.reset()
    clock.now += 10 * WATCHDOG_LIMIT_S
    assert not watchdog.hangs()


def test_words_that_nobody_read_count_when_they_are_read(watchdog: NotifySocket, clock: Clock) -> None:
    """A supervisor that was itself stopped for a while must not kill programs that worked meanwhile."""
    program = ServiceManager(watchdog.environment, clock)
    program.ready()
    clock.now += 3 * WATCHDOG_LIMIT_S
    program.alive()
    assert not watchdog.hangs()


def test_two_do_not_hear_each_other(watchdog: NotifySocket, clock: Clock) -> None:
    other = NotifySocket(clock=clock)
    ServiceManager(other.environment, clock).ready()
    clock.now += 2 * WATCHDOG_LIMIT_S
    assert not watchdog.hangs()
    assert not other.hangs(), "read only now"
    clock.now += WATCHDOG_LIMIT_S
    assert other.hangs()
    other.close()


def test_what_is_no_word_of_life_does_not_count(watchdog: NotifySocket, clock: Clock) -> None:
    address = watchdog.environment["NOTIFY_SOCKET"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        for said in (bytes(range(256)), b"STATUS=busy", b""):
            sock.sendto(said, "\0" + address[1:])
    assert not watchdog.hangs()
    clock.now += 2 * WATCHDOG_LIMIT_S
    assert not watchdog.hangs(), "it has not even said that it is ready"


def settings_for(port: int, **listener: object) -> Settings:
    return Settings(listener=ListenerSettings.model_validate({"host": "127.0.0.1", "port": port, **listener}))


def test_a_listener_hears(tmp_path: Path) -> None:
    with running(listener_settings(tmp_path)) as listener:
        assert listener_answers(settings_for(listener.port))
        assert listener_answers(settings_for(listener.port, host="0.0.0.0"))


@pytest.mark.parametrize("late", [False, True])
def test_to_be_refused_is_an_answer(late: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if late:
        wake_late(monkeypatch)
    with running(listener_settings(tmp_path)) as listener:
        assert listener_answers(settings_for(listener.port, ae_title="SOMEBODY-ELSE"))


@pytest.mark.parametrize("tls", [False, True])
def test_a_process_that_accepts_nothing_is_deaf(tls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.program_health, "PROBE_LIMIT_S", 0.3)
    files = TlsFiles(certificate=Path("c"), key=Path("k"), authority=Path("a")) if tls else None
    with socket.socket() as hanging:
        hanging.bind(("127.0.0.1", 0))
        hanging.listen()
        begun = time.monotonic()
        assert not listener_answers(settings_for(hanging.getsockname()[1], tls=files))
        assert time.monotonic() - begun < 10


def test_nobody_there() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert not listener_answers(settings_for(port))


@pytest.mark.parametrize(
    ("answers", "alarms"),
    [
        ([True] * 20, 0),
        ([False] * (FAILED_PROBES - 1) + [True] + [False] * (FAILED_PROBES - 1), 0),
        ([False] * FAILED_PROBES, 1),
        ([False] * (2 * FAILED_PROBES), 2),
    ],
)
def test_only_a_row_of_unanswered_questions_counts(answers: list[bool], alarms: int) -> None:
    waits: list[float] = []
    asked = iter(answers)
    deaf: list[int] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return len(waits) > len(answers)

    Probe("listen", lambda: next(asked), lambda: deaf.append(1), wait).run()
    assert len(deaf) == alarms
    assert set(waits) == {PROBE_EVERY_S}


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    pids: dict[str, int | None] = {"listen": None, "watch": 1, "work-detect": 2, "work-deliver": 3}
    assert not_ready(pids, {}, {}, {"detect"}) == ["listen", "work-deliver"]
    assert not_ready({"flower": os.getpid()}, {"flower": 1}, {}, ()) == ["flower"]
    lock = tmp_path / "daemon.lock"
    assert not_ready({"watch": 17}, {}, {"watch": lock}, ()) == ["watch"]
    lock.write_text("16\n")
    assert not_ready({"watch": 17}, {}, {"watch": lock}, ()) == ["watch"]
    lock.write_text("17\n")
    assert not_ready({"watch": 17}, {}, {"watch": lock}, ()) == []


def test_who_listens_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert listens(os.getpid(), server.getsockname()[1])
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    assert not listens(os.getpid(), port)


def test_a_process_that_is_gone_does_not_listen() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not listens(ended.pid, 0)
    assert not listens(None, 0)
