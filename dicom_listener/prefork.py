"""Pre-forked processes with one task, supervised by a parent that replaces those that die or hang."""

from __future__ import annotations

import mmap
import os
import signal
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence

import structlog

from foundation.stopping import StopRequest

log = structlog.get_logger()

RESTART_DELAY_S = 1.0
"""Delay before a dead process is replaced, so that a fault at its start does not spin."""
PARENT_POLL_S = 1.0
"""Interval at which a process checks that its parent is alive; without a parent nothing would stop it."""
HANGS_AFTER_S = 30.0
"""A process without a heartbeat for this long is killed, and replaced like one that died."""

Heartbeat = Callable[[], None]
"""A process calls it several times a second while it works."""
Task = Callable[[StopRequest, Heartbeat], None]


class Heartbeats:
    """Time of the last heartbeat of each process, in shared memory.

    Parameters
    ----------
    longest_s
        Longest time without a heartbeat. A parent that was itself stopped for more than half of that (suspended machine, debugger)
        cannot judge, and starts counting again.
    """

    def __init__(self, count: int, longest_s: float) -> None:
        self._seconds = struct.Struct("d")
        self._memory = mmap.mmap(-1, count * self._seconds.size)
        self._count = count
        self._longest_s = longest_s
        self._judged_at = float("inf")

    def beat(self, slot: int, now_s: float) -> None:
        """Record a heartbeat."""
        self._seconds.pack_into(self._memory, slot * self._seconds.size, now_s)

    def silent(self, now_s: float) -> list[int]:
        """Slots of the processes without a heartbeat for too long. To be called at intervals much shorter than `longest_s`."""
        slept, self._judged_at = now_s - self._judged_at, now_s
        if slept > self._longest_s / 2:
            for slot in range(self._count):
                self.beat(slot, now_s)
        return [slot for slot in range(self._count) if now_s - self._last(slot) > self._longest_s]

    def _last(self, slot: int) -> float:
        return float(self._seconds.unpack_from(self._memory, slot * self._seconds.size)[0])


def supervise(task: Task, count: int, stop_signals: Sequence[signal.Signals], heartbeat: Heartbeat) -> None:
    """Run `task` in `count` forked processes until a stop signal, replace those that die or hang; return when all have ended.

    Must be called from the main thread, before any other thread was started.

    Parameters
    ----------
    task
        Receives a stop request, set when it should end, and its heartbeat function.
    heartbeat
        Called about once a second while every process works.
    """
    watched = {*stop_signals, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    heartbeats = Heartbeats(count, HANGS_AFTER_S)
    children: dict[int, int] = {}

    def start(slot: int) -> None:
        heartbeats.beat(slot, time.monotonic())
        pid = _fork(lambda stop: task(stop, lambda: heartbeats.beat(slot, time.monotonic())), stop_signals, before)
        children[pid] = slot

    try:
        for slot in range(count):
            start(slot)
        while True:
            received = signal.sigtimedwait(sorted(watched), PARENT_POLL_S)
            # not "other than SIGCHLD": after SIGCONT CPython returns a value that is no signal
            if received is not None and received.si_signo in stop_signals:
                break
            silent = heartbeats.silent(time.monotonic())
            for pid in [pid for pid, slot in children.items() if slot in silent]:
                log.error("listener_process_unresponsive", pid=pid, silent_for_s=HANGS_AFTER_S)
                os.kill(pid, signal.SIGKILL)
                heartbeats.beat(children[pid], time.monotonic())  # its death may take a moment
            for pid in _reap(children):
                log.error("listener_process_died", pid=pid)
                time.sleep(RESTART_DELAY_S)
                start(children.pop(pid))
            if not silent:
                heartbeat()
    finally:
        for pid in children:
            os.kill(pid, signal.SIGTERM)
        for pid in children:
            os.waitpid(pid, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _reap(children: dict[int, int]) -> list[int]:
    return [pid for pid in children if os.waitpid(pid, os.WNOHANG)[0] == pid]


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
        # not sys.exit: exit handlers that the parent registered belong to the parent
        os._exit(status)


def _follow_parent(parent: int, stop: StopRequest) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_S)
    stop.requested = True
