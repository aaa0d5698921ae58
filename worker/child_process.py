"""The context of a worker's child process: opened after the fork; a child that cannot open it ends, and Celery replaces it.

Celery calls the handlers of a signal within `except Exception`, logs what they raise, and goes on: a child without its context
would take messages and fail each of them. So nothing that is raised here reaches Celery.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Final

import structlog
from billiard.pool import EX_RECYCLE

from foundation.backoff import Backoff
from foundation.safe_errors import describe_error, error_frames
from worker.context import WorkerContext

log = structlog.get_logger()

LIMIT_S: Final = 60.0
"""A child that has no context after this many seconds ends. Less than `worker_proc_alive_timeout`, after which Celery kills it."""

BACKOFF: Final = Backoff(0.5, 5.0)
"""Waits between attempts to open the context, in seconds."""


class ChildContext:
    """Opens the context when the child has started, and hands it to its tasks.

    Until the context is open the child takes no message: Celery gives it the first one after its signal handlers have returned.

    Parameters
    ----------
    open_context
        Opens the ledger and the destinations; raises where the database, for example, is away.
    set_up
        What else the child needs before its first task, such as its model; called once with the context.
    on_problem
        Called with the reason why the context cannot be opened, and with "" once it is open.
    end
        Ends this process at once.
    """

    def __init__(
        self,
        open_context: Callable[[], WorkerContext],
        set_up: Callable[[WorkerContext], object] = lambda _context: None,
        *,
        on_problem: Callable[[str], object] = lambda _why: None,
        end: Callable[[int], Any] = os._exit,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open, self._set_up = open_context, set_up
        self._on_problem = on_problem
        self._end, self._sleep, self._clock = end, sleep, clock
        self._context: WorkerContext | None = None

    def __call__(self) -> WorkerContext:
        """The context; without one this process ends: its message is delivered again, to a child that has one."""
        if self._context is None:
            log.error("worker_process_without_context", effect="it ends and is replaced")
            self._end(EX_RECYCLE)
            raise RuntimeError("this process has no context")
        return self._context

    def start(self, **_: Any) -> None:
        """Open the context, for `worker_process_init`. Ends this process where that is not possible within `LIMIT_S`."""
        try:
            context = self._open_patiently()
            if context is not None:
                self._set_up(context)
                self._context = context
                return
        except BaseException as error:
            log.error("worker_process_not_set_up", why=describe_error(error), trace=error_frames(error))
            self._sleep(BACKOFF.longest_s)  # not a new process every few milliseconds
        self._end(EX_RECYCLE)

    def _open_patiently(self) -> WorkerContext | None:
        began, failures = self._clock(), 0
        while True:
            try:
                context = self._open()
            except Exception as error:
                failures += 1
                if failures == 1:
                    self._on_problem(describe_error(error))
                    log.error("worker_context_unavailable", why=describe_error(error), effect="this process waits, cases wait")
                if self._clock() - began >= LIMIT_S:
                    log.error("worker_process_ends", why=describe_error(error), effect="a new one retries")
                    return None
                self._sleep(BACKOFF.delay_s(failures))
            else:
                if failures:
                    self._on_problem("")
                    log.info("worker_context_recovered", after_s=round(self._clock() - began, 1))
                return context
