"""A worker takes work from `detect` only while its model is loaded.

The consumer runs in the worker's parent process, the model in its child, which is another process after every hard time limit. So
the child writes into shared memory how it stands with its model, and the parent looks there every second: it opens the queue once
the model is traced and closes it when a new child cannot load it. A child that cannot ends after `RETRY_S` and its successor tries
again, in a fresh process, since TensorFlow looks for devices once only. Meanwhile cases wait in the queue.
"""

from __future__ import annotations

import contextlib
import enum
import mmap
import os
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import structlog
from billiard.pool import EX_RECYCLE
from celery import Celery, bootsteps, signals
from celery.utils.nodenames import nodesplit
from kombu.exceptions import OperationalError

from outputs.mail.operator_notice import OneNoticePerOutage

log = structlog.get_logger()

RETRY_S: Final = 30.0
"""A model that cannot be loaded is tried again so often."""

LOOK_S: Final = 1.0
"""The parent looks so often whether the model is loaded."""

HEARTBEAT_S: Final = 10.0
"""So often Flower is told that the model is missing."""

LOADING_LIMIT_S: Final = 120.0
"""A model that is still being loaded after so long counts as missing: it hangs, or its process ends each time before it has said
why, as where memory is short."""

PROBLEM_AFTER_S: Final = 300.0
"""A model that is missing for so long is told again, and to the operators by mail; where no mail went out, again after as long."""

_SIZE: Final = 2048


class Readiness(enum.IntEnum):
    """How a worker stands with its model."""

    LOADING = 0
    READY = 1
    MISSING = 2


class ModelStatus:
    """`Readiness` and the problem, shared between a process and the children that it forks; one child writes, anybody reads."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SIZE)  # anonymous and shared: children inherit it

    def write(self, readiness: Readiness, problem: str = "") -> None:
        """Say how it stands; `problem` says what is wrong where the model is missing."""
        text = problem.encode()[: _SIZE - 3]
        self._memory[1:3] = len(text).to_bytes(2, "big")
        self._memory[3 : 3 + len(text)] = text
        self._memory[0] = int(readiness)  # last: whoever sees it sees the text too

    @property
    def readiness(self) -> Readiness:
        """How it stands."""
        return Readiness(self._memory[0])

    @property
    def problem(self) -> str:
        """What is wrong; empty where nothing is."""
        length = int.from_bytes(self._memory[1:3], "big")
        return self._memory[3 : 3 + length].decode(errors="ignore")


class ModelKeeper:
    """The child's side: loads the model once, or ends this process after a while so that the next one tries again.

    Parameters
    ----------
    warm_up
        Loads and traces the model; returns what is wrong, or None.
    end
        Ends this process at once.
    """

    def __init__(self, status: ModelStatus, warm_up: Callable[[], str | None], *, end: Callable[[int], Any] = os._exit) -> None:
        self._status = status
        self._warm_up = warm_up
        self._end = end
        self._at_work = threading.Lock()  # a process may be in the middle of a task when its time comes
        signals.task_prerun.connect(self._begin_task)
        signals.task_postrun.connect(self._end_task)

    @property
    def has_model(self) -> bool:
        """Whether the model is loaded and works."""
        return self._status.readiness is Readiness.READY

    def revalidate(self) -> None:
        """Run the loaded model on an empty head after a task that failed by an unknown error, which may be the device's.

        So a broken device fails one case, not each that follows.
        """
        self.load()

    def load(self) -> bool:
        """Load the model, or try the one that is loaded; whether that went well. Where it did not, this process ends after
        `RETRY_S`, between two tasks."""
        self._status.write(Readiness.LOADING)
        problem = self._warm_up()
        if problem is None:
            self._status.write(Readiness.READY)
            return True
        self._status.write(Readiness.MISSING, problem)
        threading.Thread(target=self._end_later, name="model-retry", daemon=True).start()
        return False

    def _begin_task(self, **_: Any) -> None:
        self._at_work.acquire(blocking=False)  # held by whoever ends this process: the task is given out again then

    def _end_task(self, **_: Any) -> None:
        with contextlib.suppress(RuntimeError):  # not held
            self._at_work.release()

    def _end_later(self) -> None:
        time.sleep(RETRY_S)
        with self._at_work:
            self._end(EX_RECYCLE)  # as a child that has done its share of tasks: its parent starts another one and is not alarmed


class QueueGate:
    """Opens and closes one queue of a worker as its model comes and goes; pure of clocks and of Celery.

    Parameters
    ----------
    open_queue, close_queue
        Begin and stop taking messages.
    show_missing
        Tells the monitor that the model is missing; called every `HEARTBEAT_S` while it is.
    show_found
        Tells the monitor, and whoever was told, that it no longer is.
    alarm
        Tells the operators what is wrong; called every `PROBLEM_AFTER_S`, and may take that for once.
    """

    def __init__(
        self,
        status: ModelStatus,
        *,
        open_queue: Callable[[], None],
        close_queue: Callable[[], None],
        show_missing: Callable[[], None],
        show_found: Callable[[], None],
        alarm: Callable[[str], None],
    ) -> None:
        self._status = status
        self._open_queue, self._close_queue = open_queue, close_queue
        self._show_missing, self._show_found = show_missing, show_found
        self._alarm = alarm
        self._is_open = False
        self._loading_since: float | None = None
        self._missing_since: float | None = None
        self._problem = ""
        self._shown_at: float | None = None
        self._reminded_at = 0.0

    def look(self, now: float) -> None:
        """Act on how it stands with the model now (`now` in monotonic seconds)."""
        readiness = self._status.readiness
        if (readiness is Readiness.READY) != self._is_open:
            self._is_open = not self._is_open
            (self._open_queue if self._is_open else self._close_queue)()
        if readiness is not Readiness.LOADING:
            self._loading_since = None
        elif self._loading_since is None:
            self._loading_since = now
        if readiness is Readiness.MISSING:
            self._missing(now, self._status.problem)
        elif self._loading_since is not None and now - self._loading_since >= LOADING_LIMIT_S:
            self._missing(now, f"it is still not loaded after {LOADING_LIMIT_S:.0f} s; is there enough memory?")
        elif readiness is Readiness.READY and self._missing_since is not None:
            log.info("the model is there again; taking work", after_s=round(now - self._missing_since))
            self._missing_since, self._shown_at, self._problem = None, None, ""
            self._show_found()

    def _missing(self, now: float, problem: str) -> None:
        if self._missing_since is None:
            self._missing_since = self._reminded_at = now
        if problem != self._problem:
            self._problem = problem
            log.error("no model, so this worker takes no work; cases wait", why=problem, tried_again_every_s=RETRY_S)
        elif now - self._reminded_at >= PROBLEM_AFTER_S:
            self._reminded_at = now
            log.error("still no model; cases wait", why=problem, since_s=round(now - self._missing_since))
            self._alarm(problem)
        if self._shown_at is None or now - self._shown_at >= HEARTBEAT_S:
            self._shown_at = now
            self._show_missing()


def gated(app: Celery, status: ModelStatus, queue: str, notice: OneNoticePerOutage) -> None:
    """Make the worker of `app` consume `queue` only while `status` is READY. Called in the parent, before the worker starts."""

    class Gate(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
        """Runs `QueueGate` in the consumer's event loop."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, consumer: Any) -> None:
            """Also after every lost connection, when the queues that were open are open again."""
            monitor = _Monitor(app, consumer.hostname)
            consumer.cancel_task_queue(queue)

            def found() -> None:
                monitor.found()
                notice.reset()

            gate = QueueGate(
                status,
                open_queue=lambda: consumer.add_task_queue(queue),
                close_queue=lambda: consumer.cancel_task_queue(queue),
                show_missing=monitor.missing,
                show_found=found,
                alarm=notice.report,
            )
            self._timer = consumer.timer.call_repeatedly(LOOK_S, lambda: gate.look(time.monotonic()))

        def stop(self, _consumer: Any) -> None:
            self._timer.cancel()

    app.steps["consumer"].add(Gate)


class _Monitor:
    """Shows in Flower, as a worker of its own in the list, that this worker has no model."""

    def __init__(self, app: Celery, hostname: str) -> None:
        name, host = nodesplit(hostname)
        self._app = app
        self._hostname = f"{name}-HAS-NO-MODEL@{host}"

    def missing(self) -> None:
        """A heartbeat; without the next one Flower calls the line offline."""
        self._send("worker-heartbeat")

    def found(self) -> None:
        """The line goes offline at once."""
        self._send("worker-offline")

    def _send(self, event: str) -> None:
        try:
            with self._app.connection_for_write() as connection, self._app.events.Dispatcher(connection, self._hostname) as sender:
                sender.send(event, freq=HEARTBEAT_S, sw_ident="corewatch", sw_ver="", sw_sys="")
        except (OperationalError, OSError) as error:
            log.warning("the monitor cannot be told of the missing model", why=type(error).__name__)
