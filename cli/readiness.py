"""Is everything that `corewatch up` started at work? Asked from outside, without disturbing the programs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import psutil
from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

REPLY_LIMIT_S = 1.0
"""Workers that do not reply within this are busy starting."""


def listens(pid: int | None, port: int) -> bool:
    """Whether the process or one of its children listens at TCP `port` (0: at any)."""
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


def worker_queues(app: Celery) -> dict[str, set[str]]:
    """Every worker that replies, with the names of the queues that it takes work from now."""
    try:
        replies = app.control.inspect(timeout=REPLY_LIMIT_S).active_queues() or {}
    except (OperationalError, RedisError, OSError):
        return {}
    return {worker: {queue["name"] for queue in queues} for worker, queues in replies.items()}


def consumed_queues(app: Celery) -> set[str]:
    """Names of the queues that a worker takes work from."""
    return set().union(*worker_queues(app).values())


def holds(pid: int | None, lock: Path) -> bool:
    """Whether the process has written itself down as the holder of a lock file."""
    try:
        return pid is not None and int(lock.read_text()) == pid
    except (OSError, ValueError):
        return False


def missing(
    pids: Mapping[str, int | None], ports: Mapping[str, int], locks: Mapping[str, Path], queues: Collection[str]
) -> list[str]:
    """Names of the programs that are not ready.

    Parameters
    ----------
    pids
        Program -> process id, None while it does not run.
    ports
        Program -> TCP port that it has to listen at.
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
        or (name in locks and not holds(pid, locks[name]))
        or (name.startswith("work-") and name.removeprefix("work-") not in queues)
    ]
