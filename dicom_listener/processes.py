"""Several processes with one task, kept alive by a parent that does nothing else."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence

import structlog

from config.stopping import StopRequest

log = structlog.get_logger()

RESTART_DELAY_S = 1.0
"""Before a process that died is replaced, so that a fault that comes back at once does not spin."""
PARENT_POLL_S = 1.0
"""How often a process looks whether its parent still lives; without it nobody would stop it."""


def supervise(task: Callable[[StopRequest], None], count: int, stop_signals: Sequence[signal.Signals]) -> None:
    """Run `task` in `count` forked processes until a stop signal, replace those that die; return when all have ended.

    `task` gets a request that is made when it should end. Must be called from the main thread, before any other thread was started.
    """
    watched = {*stop_signals, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    children: set[int] = set()
    try:
        children.update(_fork(task, stop_signals, before) for _ in range(count))
        while True:
            received = signal.sigtimedwait(sorted(watched), PARENT_POLL_S)
            if received is not None and received.si_signo != signal.SIGCHLD:
                break
            for pid in _reap(children):
                log.error("listener_process_died", pid=pid)
                time.sleep(RESTART_DELAY_S)
                children.add(_fork(task, stop_signals, before))
    finally:
        for pid in children:
            os.kill(pid, signal.SIGTERM)
        for pid in children:
            os.waitpid(pid, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _reap(children: set[int]) -> list[int]:
    ended = [pid for pid in children if os.waitpid(pid, os.WNOHANG)[0] == pid]
    children.difference_update(ended)
    return ended


def _fork(task: Callable[[StopRequest], None], stop_signals: Sequence[signal.Signals], mask: set[signal.Signals] | set[int]) -> int:
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        stop = StopRequest()
        for number in stop_signals:
            signal.signal(number, stop.handle)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        threading.Thread(target=_follow_parent, args=(parent, stop), name="parent-watch", daemon=True).start()
        task(stop)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        # not sys.exit: what the parent registered to run at its exit is the parent's
        os._exit(status)


def _follow_parent(parent: int, stop: StopRequest) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_S)
    stop.requested = True
