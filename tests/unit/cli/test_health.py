"""A listener that lives but is deaf is noticed; one that refuses us hears."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

import cli.health
from cli.health import ASK_EVERY_S, DEAF_AFTER, HealthWatch, hears
from config.intake import ListenerSettings
from config.section import TlsFiles
from config.settings import Settings
from tests.support.late import wake_late
from tests.support.listener import listener_settings, running


def settings_for(port: int, **listener: object) -> Settings:
    return Settings(listener=ListenerSettings.model_validate({"host": "127.0.0.1", "port": port, **listener}))


def test_a_listener_hears(tmp_path: Path) -> None:
    with running(listener_settings(tmp_path)) as listener:
        assert hears(settings_for(listener.port))
        assert hears(settings_for(listener.port, host="0.0.0.0"))


@pytest.mark.parametrize("late", [False, True])
def test_to_be_refused_is_an_answer(late: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if late:
        wake_late(monkeypatch)
    with running(listener_settings(tmp_path)) as listener:
        assert hears(settings_for(listener.port, ae_title="SOMEBODY-ELSE"))


@pytest.mark.parametrize("tls", [False, True])
def test_a_process_that_accepts_nothing_is_deaf(tls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.health, "ANSWER_LIMIT_S", 0.3)
    files = TlsFiles(certificate=Path("c"), key=Path("k"), authority=Path("a")) if tls else None
    with socket.socket() as hanging:
        hanging.bind(("127.0.0.1", 0))
        hanging.listen()
        begun = time.monotonic()
        assert not hears(settings_for(hanging.getsockname()[1], tls=files))
        assert time.monotonic() - begun < 10


def test_nobody_there() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert not hears(settings_for(port))


@pytest.mark.parametrize(
    ("answers", "alarms"),
    [
        ([True] * 20, 0),
        ([False] * (DEAF_AFTER - 1) + [True] + [False] * (DEAF_AFTER - 1), 0),
        ([False] * DEAF_AFTER, 1),
        ([False] * (2 * DEAF_AFTER), 2),
    ],
)
def test_only_a_row_of_unanswered_questions_counts(answers: list[bool], alarms: int) -> None:
    waits: list[float] = []
    asked = iter(answers)
    deaf: list[int] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return len(waits) > len(answers)

    HealthWatch(lambda: next(asked), lambda: deaf.append(1), wait).run()
    assert len(deaf) == alarms
    assert set(waits) == {ASK_EVERY_S}
