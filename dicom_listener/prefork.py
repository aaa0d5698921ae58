"""Several processes with one task, kept alive by a parent that does nothing else."""

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
"""Before a process that died is replaced, so that a fault that comes back at once does not spin."""
PARENT_POLL_S = 1.0
"""How often a process looks whether its parent still lives; without it nobody would stop it."""
HANGS_AFTER_S = 30.0
"""A process that has shown no sign of life for so long is killed, and then replaced as one that died."""

Alive = Callable[[], None]
"""To be called again and again by what works."""
Task = Callable[[StopRequest, Alive], None]


class Pulses:
    """When each of some processes last showed a sign of life, in memory that they share.

    Parameters
    ----------
    longest_s
        Silence of more than this is too long. A parent that was itself stopped for a good part of that (a suspended machine, a
        debugger) cannot judge, and begins anew.
    """

    def __init__(self, count: int, longest_s: float) -> None:
        self._seconds = struct.Struct("d")
        self._memory = mmap.mmap(-1, count * self._seconds.size)
        self._count = count
        self._longest_s = longest_s
        self._judged_at = float("inf")

    def beat(self, slot: int, now_s: float) -> None:
        """A sign of life."""
        self._seconds.pack_into(self._memory, slot * self._seconds.size, now_s)

    def silent(self, now_s: float) -> list[int]:
        """Slots of the processes that were silent for too long. To be asked often."""
        slept, self._judged_at = now_s - self._judged_at, now_s
        if slept > self._longest_s / 2:
            for slot in range(self._count):
                self.beat(slot, now_s)
        return [slot for slot in range(self._count) if now_s - self._last(slot) > self._longest_s]

    def _last(self, slot: int) -> float:
        return float(self._seconds.unpack_from(self._memory, slot * self._seconds.size)[0])


def supervise(task: Task, count: int, stop_signals: Sequence[signal.Signals], alive: Alive) -> None:
    """Run `task` in `count` forked processes until a stop signal, replace those that die or hang; return when all have ended.

    Must be called from the main thread, before any other thread was started.

    Parameters
    ----------
    task
        Gets a request that is made when it should end, and what it calls again and again while it works.
    alive
        Called again and again here while every process works.
    """
    watched = {*stop_signals, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    pulses = Pulses(count, HANGS_AFTER_S)
    children: dict[int, int] = {}

    def start(slot: int) -> None:
        pulses.beat(slot, time.monotonic())
        pid = _fork(lambda stop: task(stop, lambda: pulses.beat(slot, time.monotonic())), stop_signals, before)
        children[pid] = slot

    try:
        for slot in range(count):
            start(slot)
        while True:
            received = signal.sigtimedwait(sorted(watched), PARENT_POLL_S)
            # not "other than SIGCHLD": after SIGCONT CPython gives what is no signal at all
            if received is not None and received.si_signo in stop_signals:
                break
            silent = pulses.silent(time.monotonic())
            for pid in [pid for pid, slot in children.items() if slot in silent]:
                log.error("listener_process_hangs", pid=pid, silent_for_s=HANGS_AFTER_S)
                os.kill(pid, signal.SIGKILL)
                pulses.beat(children[pid], time.monotonic())  # it may take a while to die
            for pid in _reap(children):
                log.error("listener_process_died", pid=pid)
                time.sleep(RESTART_DELAY_S)
                start(children.pop(pid))
            if not silent:
                alive()
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
        # not sys.exit: what the parent registered to run at its exit is the parent's
        os._exit(status)


def _follow_parent(parent: int, stop: StopRequest) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_S)
    stop.requested = True
