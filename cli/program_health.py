"""Whether the programs of `corewatch up` work: watchdog messages (sd_notify), listener probe, readiness. All from outside.

A process that runs may still hang. Every program reports to a watchdog socket, as under systemd. The listener is also asked for an
association, the private Redis for an answer, and the workers for their queues.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from config.settings import Settings

WATCHDOG_LIMIT_S: Final = 60.0
"""A program that reports nothing this long hangs; the same as `WatchdogSec` of the systemd units."""

WATCHDOG_VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""Environment of a supervised program (sd_notify(3), sd_watchdog_enabled(3))."""

PROBE_LIMIT_S: Final = 5.0
"""A listener or Redis that answers later than this fails the probe."""

PROBE_EVERY_S: Final = 15.0
FAILED_PROBES: Final = 4
"""Failed probes in a row after which the program is restarted: a minute, in which it may also have been busy starting."""

REPLY_LIMIT_S = 1.0
"""Workers that do not reply within this are busy starting."""

_LONGEST_MESSAGE = 4096
_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}


class NotifySocket:
    """Watchdog of one program, over all its starts: receives the messages that `foundation.service_manager` sends.

    A program that has not reported yet is never counted as hanging, however long it takes to start.

    Parameters
    ----------
    limit_s
        Seconds without a message after which the program hangs.
    clock
        Monotonic seconds.
    """

    def __init__(self, limit_s: float = WATCHDOG_LIMIT_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s = limit_s
        self._clock = clock
        self._reported_at: float | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._socket.bind("")  # an address without a file (unix(7), "Autobind feature"), which vanishes with this process

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables for the program's environment."""
        address: bytes = self._socket.getsockname()
        return {"NOTIFY_SOCKET": "@" + address[1:].decode("ascii"), "WATCHDOG_USEC": str(round(self._limit_s * 1e6))}

    @property
    def has_reported(self) -> bool:
        """Whether the program has reported since its start, as far as `hangs` has read."""
        return self._reported_at is not None

    def reset(self) -> None:
        """Forget what was reported: the program is about to be started, or was killed."""
        self._receive()
        self._reported_at = None

    def hangs(self) -> bool:
        """Whether the last report is older than the limit."""
        for message in self._receive():
            # systemd's rule: time counts once the program is ready, and no longer once it stops
            if message in {"READY=1", "WATCHDOG=1"}:
                self._reported_at = self._clock()
            elif message == "STOPPING=1":
                self._reported_at = None
        return self._reported_at is not None and self._clock() - self._reported_at >= self._limit_s

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _receive(self) -> list[str]:
        messages: list[str] = []
        while True:
            try:
                messages += self._socket.recv(_LONGEST_MESSAGE).decode("utf-8", "replace").splitlines()
            except BlockingIOError:
                return messages


def listener_answers(settings: Settings) -> bool:
    """Whether the listener answers an association request (PS3.8), or with TLS a handshake; a rejection is an answer.

    A TCP connection alone proves nothing: the kernel accepts it for a process that hangs.
    """
    listener = settings.listener
    host = _LOOPBACK.get(listener.host, listener.host)
    if listener.tls is not None:
        return _tls_answers(host, listener.port)
    from pynetdicom import AE
    from pynetdicom.sop_class import Verification

    from foundation.dicom_client.association import HandshakeEvents

    events = HandshakeEvents()
    entity = AE(ae_title="COREWATCH-UP")
    entity.add_requested_context(Verification)
    entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = PROBE_LIMIT_S
    association = entity.associate(host, listener.port, ae_title=listener.ae_title, evt_handlers=events.handlers)
    if association.is_established:
        association.release()
        return True
    return events.rejection is not None or _closes(host, listener.port)


def _closes(host: str, port: int) -> bool:
    """Whether a new connection is closed at once, which only a process that works does: it has no room for a further one."""
    try:
        plain = socket.create_connection((host, port), timeout=PROBE_LIMIT_S)
    except OSError:
        return False
    with plain:
        try:
            return plain.recv(1) == b""
        except ConnectionError:
            return True
        except OSError:
            return False


def _tls_answers(host: str, port: int) -> bool:
    """Whether a TLS hello is answered; a refusal for want of a certificate is an answer."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        plain = socket.create_connection((host, port), timeout=PROBE_LIMIT_S)
    except OSError:
        return False
    try:
        with plain, context.wrap_socket(plain):
            return True
    except (ssl.SSLError, ConnectionError):
        return True  # it refuses, or has no room: it works
    except OSError:
        return False


class Probe(threading.Thread):
    """Thread that probes a program every `PROBE_EVERY_S` and calls `on_failure` after `FAILED_PROBES` in a row.

    Parameters
    ----------
    program
        Name of the program.
    probe
        One probe, bounded in time; whether it was answered.
    wait
        Waits this many seconds; True ends the thread.
    """

    def __init__(
        self, program: str, probe: Callable[[], bool], on_failure: Callable[[], None], wait: Callable[[float], bool]
    ) -> None:
        super().__init__(name=f"{program}-probe", daemon=True)
        self._probe = probe
        self._on_failure = on_failure
        self._wait = wait

    def run(self) -> None:
        """Probe until `wait` says to end."""
        failed = 0
        while not self._wait(PROBE_EVERY_S):
            failed = 0 if self._probe() else failed + 1
            if failed >= FAILED_PROBES:
                failed = 0
                self._on_failure()


def not_ready(
    pids: Mapping[str, int | None], ports: Mapping[str, int], locks: Mapping[str, Path], queues: Collection[str]
) -> list[str]:
    """Names of the programs that are not ready.

    Parameters
    ----------
    pids
        Program -> process id, None while it does not run.
    ports
        Program -> TCP port that it has to listen on.
    locks
        Program -> lock file that it has to hold.
    queues
        Queues that are consumed (see `consumed_queues`).
    """
    return [
        name
        for name, pid in pids.items()
        if pid is None
        or (name in ports and not listens(pid, ports[name]))
        or (name in locks and not holds_lock(pid, locks[name]))
        or (name.startswith("work-") and name.removeprefix("work-") not in queues)
    ]


def listens(pid: int | None, port: int) -> bool:
    """Whether the process or one of its children listens on TCP `port` (0: on any)."""
    if pid is None:
        return False
    try:
        leader = psutil.Process(pid)
        return any(
            connection.status == psutil.CONN_LISTEN and port in (0, connection.laddr.port)
            for process in (leader, *leader.children(recursive=True))
            for connection in process.net_connections(kind="tcp")
        )
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def holds_lock(pid: int | None, lock: Path) -> bool:
    """Whether the lock file names the process as its holder."""
    try:
        return pid is not None and int(lock.read_text()) == pid
    except (OSError, ValueError):
        return False


def worker_queues(app: Celery) -> dict[str, set[str]]:
    """Worker -> names of the queues that it consumes now, of every worker that replies."""
    try:
        replies = app.control.inspect(timeout=REPLY_LIMIT_S).active_queues() or {}
    except (OperationalError, RedisError, OSError):
        return {}
    return {worker: {queue["name"] for queue in queues} for worker, queues in replies.items()}


def consumed_queues(app: Celery) -> set[str]:
    """Names of the queues that at least one worker consumes."""
    return set().union(*worker_queues(app).values())
