"""Keeps programs running, and stops them in order.

Single-threaded: `start`, then `step` again and again, then `stop`, all from the main thread (the tether of a child is tied to the
thread that started it). The policy is in `cli.supervision`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cli.supervision import failures_after_exit, restart_delay_s
from corewatch.errors import CorewatchError

_log = logging.getLogger(__name__)

POLL_S = 0.1


class Watchdog(Protocol):
    """The part of `cli.watchdog.Watchdog` that is needed here."""

    def begin(self) -> None:
        """The program is started, or was killed."""
        ...

    def is_silent(self) -> bool:
        """Whether it hangs."""
        ...

    def close(self) -> None:
        """Listen no more."""
        ...


class Process(Protocol):
    """The part of `subprocess.Popen` that is needed here. The process leads a process group of its own."""

    pid: int

    def poll(self) -> int | None:
        """Exit status, or None while it runs."""
        ...

    def terminate(self) -> None:
        """Send SIGTERM."""
        ...


@dataclass(frozen=True, slots=True)
class Program:
    """One program to keep running.

    Attributes
    ----------
    start
        Starts it and returns its process; may raise `CorewatchError` or `OSError`, which counts as a failure.
    stop_order
        Programs with a lower number are stopped first; those with the same number together.
    stop_limit_s
        Seconds from SIGTERM to SIGKILL.
    watchdog
        Hears whether it works; None: nobody does.
    """

    name: str
    start: Callable[[], Process]
    stop_order: int
    stop_limit_s: float
    watchdog: Watchdog | None = None


@dataclass(slots=True)
class _Kept:
    program: Program
    process: Process | None = None
    started_at: float = 0.0
    failures: int = 0
    due_at: float = 0.0


def kill_group(pid: int) -> None:
    """Kill what is left of the process group that `pid` leads or led."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


class Supervisor:
    """Keeps `programs` running.

    Parameters
    ----------
    programs
        Started in this order.
    clock
        Monotonic seconds.
    sleep
        Waits for so many seconds.
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
        self._kept = [_Kept(program) for program in programs]
        self._clock = clock
        self._sleep = sleep
        self._kill = kill
        self._condemned: set[str] = set()

    def condemn(self, name: str) -> None:
        """Kill a program that runs but does not do its work; it is started again. May be called from any thread."""
        self._condemned.add(name)

    def pid(self, name: str) -> int | None:
        """Process id of a program, or None while it does not run."""
        return next((k.process.pid for k in self._kept if k.program.name == name and k.process is not None), None)

    def step(self) -> None:
        """Start what is due, and notice what has ended."""
        for kept in self._kept:
            if kept.process is not None:
                self._look_after(kept)
            if kept.process is None and self._clock() >= kept.due_at:
                self._start(kept)

    def _look_after(self, kept: _Kept) -> None:
        assert kept.process is not None
        status = kept.process.poll()
        if status is None:
            if self._hangs(kept.program):
                _log.error("%s does not answer; killing it", kept.program.name)
                self._kill(kept.process.pid)
            return
        self._kill(kept.process.pid)  # children that it has left behind would compete with its successor
        kept.process = None
        self._failed(kept, f"ended with {_describe(status)}", self._clock() - kept.started_at)

    def _hangs(self, program: Program) -> bool:
        hangs = program.name in self._condemned or (program.watchdog is not None and program.watchdog.is_silent())
        if hangs:
            self._acquit(program)
        return hangs

    def _acquit(self, program: Program) -> None:
        """What is known of one process of the program says nothing about the next."""
        self._condemned.discard(program.name)
        if program.watchdog is not None:
            program.watchdog.begin()

    def _start(self, kept: _Kept) -> None:
        kept.started_at = self._clock()
        self._acquit(kept.program)
        try:
            kept.process = kept.program.start()
        except (CorewatchError, OSError) as error:
            self._failed(kept, f"could not be started: {error}", 0.0)
        else:
            _log.info("%s started, pid %d", kept.program.name, kept.process.pid)

    def _failed(self, kept: _Kept, what: str, ran_s: float) -> None:
        kept.failures = failures_after_exit(kept.failures, ran_s)
        delay = restart_delay_s(kept.failures)
        kept.due_at = self._clock() + delay
        _log.error("%s %s; starting it again in %g s", kept.program.name, what, delay)

    def stop(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """Stop everything, in order; returns when all are gone.

        Parameters
        ----------
        hurry
            Asked again and again; once it says True nobody is waited for any longer.
        """
        for order in sorted({k.program.stop_order for k in self._kept}):
            self._stop_together([k for k in self._kept if k.program.stop_order == order and k.process is not None], hurry)
        for kept in self._kept:
            if kept.program.watchdog is not None:
                kept.program.watchdog.close()

    def _stop_together(self, group: Sequence[_Kept], hurry: Callable[[], bool]) -> None:
        begun = self._clock()
        waiting = {k.program.name: (k.program, k.process) for k in group if k.process is not None}
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
        for kept in group:
            kept.process = None


def _describe(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"
