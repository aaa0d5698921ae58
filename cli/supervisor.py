"""Process supervisor of `corewatch up`: starts programs, restarts those that end or hang, stops them in order.

Single-threaded: `start`, then `step` repeatedly, then `stop`, all from the main thread, because a child dies with the thread that
started it (`jobs.die_with_parent`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from corewatch.errors import CorewatchError
from foundation.backoff import Backoff, RetryTimer

_log = logging.getLogger(__name__)

POLL_S: Final = 0.1

BACKOFF: Final = Backoff(1.0, 60.0)
"""Waits before restarts: at the latest a minute after the cause is removed the program runs again."""

HEALTHY_AFTER_S: Final = 60.0
"""A program that ran this long is healthy: earlier failures no longer count."""


class Watchdog(Protocol):
    """Says whether one program hangs; `cli.program_health.NotifySocket` is one."""

    def reset(self) -> None:
        """Forget what was reported: the program is started, or was killed."""
        ...

    def hangs(self) -> bool:
        """Whether the program has stopped working."""
        ...

    def close(self) -> None:
        """Free its resources."""
        ...


class Process(Protocol):
    """The part of `subprocess.Popen` that is needed here. The process leads its own process group."""

    pid: int

    def poll(self) -> int | None:
        """Exit status, or None while it runs."""
        ...

    def terminate(self) -> None:
        """Send SIGTERM."""
        ...


@dataclass(frozen=True, slots=True)
class Program:
    """One program to supervise.

    Attributes
    ----------
    start
        Starts it and returns its process; may raise `CorewatchError` or `OSError`, which counts as a failure.
    stop_order
        Programs with a lower number are stopped first; those with the same number together.
    stop_limit_s
        Seconds from SIGTERM to SIGKILL.
    watchdog
        Says whether it hangs; None: it is only restarted when it ends.
    """

    name: str
    start: Callable[[], Process]
    stop_order: int
    stop_limit_s: float
    watchdog: Watchdog | None = None


@dataclass(slots=True)
class _Supervised:
    program: Program
    process: Process | None = None
    started_at: float = 0.0
    terminated_at: float | None = None
    """When SIGTERM was sent for a restart that was asked for."""
    retry: RetryTimer = field(default_factory=lambda: RetryTimer(BACKOFF))


def kill_group(pid: int) -> None:
    """Send SIGKILL to what is left of the process group that `pid` leads or led."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


class Supervisor:
    """Keeps programs running.

    Parameters
    ----------
    programs
        Started in this order.
    clock
        Monotonic seconds.
    sleep
        Waits this many seconds.
    kill
        Kills a process group by the pid of its leader.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        kill: Callable[[int], None] = kill_group,
    ) -> None:
        self._supervised = [_Supervised(program) for program in programs]
        self._clock = clock
        self._sleep = sleep
        self._kill = kill
        self._restart_requested: set[str] = set()
        self._to_restart: set[str] = set()

    def request_restart(self, name: str) -> None:
        """Have a program that runs but does not work killed and started again. May be called from any thread."""
        self._restart_requested.add(name)

    def restart(self, names: Collection[str]) -> None:
        """Have programs stop in their own time, as for `stop`, and start again at once, in the following steps."""
        self._to_restart.update(names)

    def pid(self, name: str) -> int | None:
        """Process id of a program, or None while it does not run."""
        return next((s.process.pid for s in self._supervised if s.program.name == name and s.process is not None), None)

    def step(self) -> None:
        """Start what is due; notice what has ended or hangs."""
        for supervised in self._supervised:
            if supervised.process is not None:
                self._terminate_for_restart(supervised, supervised.process)
                self._check(supervised, supervised.process)
            if supervised.process is None and supervised.retry.is_due(self._clock()):
                self._start(supervised)

    def _terminate_for_restart(self, supervised: _Supervised, process: Process) -> None:
        name = supervised.program.name
        if name in self._to_restart:
            self._to_restart.discard(name)
            if supervised.terminated_at is None and process.poll() is None:
                _log.info("%s is restarted for the present settings", name)
                supervised.terminated_at = self._clock()
                process.terminate()
        elif supervised.terminated_at is not None and self._clock() - supervised.terminated_at >= supervised.program.stop_limit_s:
            self._kill(process.pid)

    def _check(self, supervised: _Supervised, process: Process) -> None:
        status = process.poll()
        if status is None:
            if supervised.terminated_at is None and self._must_restart(supervised.program):
                _log.error("%s does not answer; killing it", supervised.program.name)
                self._clear_restart(supervised.program)
                self._kill(process.pid)
            return
        self._kill(process.pid)  # children that it has left behind would compete with its successor
        supervised.process = None
        if supervised.terminated_at is not None:
            supervised.terminated_at = None
            supervised.retry.succeeded()
            return
        self._failed(supervised, f"ended with {_describe(status)}", self._clock() - supervised.started_at)

    def _must_restart(self, program: Program) -> bool:
        return program.name in self._restart_requested or (program.watchdog is not None and program.watchdog.hangs())

    def _clear_restart(self, program: Program) -> None:
        """Forget what is known of one process of the program: it says nothing about the next."""
        self._restart_requested.discard(program.name)
        if program.watchdog is not None:
            program.watchdog.reset()

    def _start(self, supervised: _Supervised) -> None:
        supervised.started_at = self._clock()
        self._clear_restart(supervised.program)
        try:
            supervised.process = supervised.program.start()
        except (CorewatchError, OSError) as error:
            self._failed(supervised, f"could not be started: {error}", 0.0)
        else:
            _log.info("%s started, pid %d", supervised.program.name, supervised.process.pid)

    def _failed(self, supervised: _Supervised, what: str, ran_s: float) -> None:
        if ran_s >= HEALTHY_AFTER_S:
            supervised.retry.succeeded()
        delay = supervised.retry.failed(self._clock())
        _log.error("%s %s; starting it again in %g s", supervised.program.name, what, delay)

    def stop(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """Stop everything, in order; returns when all processes have ended.

        Parameters
        ----------
        hurry
            Polled meanwhile; once it returns True, what still runs is killed.
        """
        for order in sorted({s.program.stop_order for s in self._supervised}):
            self._stop_together([s for s in self._supervised if s.program.stop_order == order], hurry)
        for supervised in self._supervised:
            if supervised.program.watchdog is not None:
                supervised.program.watchdog.close()

    def _stop_together(self, group: Sequence[_Supervised], hurry: Callable[[], bool]) -> None:
        begun = self._clock()
        waiting = {s.program.name: (s.program, s.process) for s in group if s.process is not None}
        killed: set[str] = set()
        for _program, process in waiting.values():
            if process.poll() is None:
                process.terminate()
        while waiting:
            for name, (program, process) in list(waiting.items()):
                if process.poll() is not None:
                    self._kill(process.pid)  # children that it has left behind
                    del waiting[name]
                    _log.info("%s stopped", name)
                elif name not in killed and (hurry() or self._clock() - begun >= program.stop_limit_s):
                    _log.warning("%s did not stop in time; killing it", name)
                    self._kill(process.pid)
                    killed.add(name)
            if waiting:
                self._sleep(POLL_S)
        for supervised in group:
            supervised.process = None


def _describe(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"
