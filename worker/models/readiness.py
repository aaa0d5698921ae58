"""Readiness of the model: a worker consumes the queue `detect` only while its model is loaded.

The consumer runs in the worker's parent process. The model is in its child process, which Celery replaces after a hard time limit.
The child writes its readiness into shared memory, and the parent reads it every second: it opens the queue when the model is ready
and closes it when a new child cannot load the model. Such a child ends after `RETRY_S`, and the next one retries in a new process,
since TensorFlow looks for devices only once per process. Meanwhile cases wait in the queue.
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
"""Wait before a model that cannot be loaded is retried, in seconds."""

CHECK_INTERVAL_S: Final = 1.0
"""Interval at which the parent reads the readiness, in seconds."""

HEARTBEAT_S: Final = 10.0
"""Interval of the heartbeats that show a missing model in Flower, in seconds."""

LOADING_LIMIT_S: Final = 120.0
"""A model that is still not loaded after this many seconds counts as missing: loading hangs, or the process ends each time before
it can say why, as where memory is short."""

PROBLEM_AFTER_S: Final = 300.0
"""Interval in seconds at which a missing model is logged again and reported to the operators, who get one mail per outage."""

_SIZE: Final = 2048


class Readiness(enum.IntEnum):
    """Whether the model of a worker is loaded."""

    LOADING = 0
    READY = 1
    MISSING = 2


class ModelStatus:
    """Readiness and problem of the model, shared between a process and the children that it forks; one child writes, all read."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SIZE)  # anonymous and shared: children inherit it

    def write(self, readiness: Readiness, problem: str = "") -> None:
        """Set the readiness; `problem` says why the model is missing."""
        text = problem.encode()[: _SIZE - 3]
        self._memory[1:3] = len(text).to_bytes(2, "big")
        self._memory[3 : 3 + len(text)] = text
        self._memory[0] = int(readiness)  # last: a reader that sees it sees the text too

    @property
    def readiness(self) -> Readiness:
        """Whether the model is loaded."""
        return Readiness(self._memory[0])

    @property
    def problem(self) -> str:
        """Why the model is missing; empty where it is not."""
        length = int.from_bytes(self._memory[1:3], "big")
        return self._memory[3 : 3 + length].decode(errors="ignore")


class ModelKeeper:
    """The child's side: loads the model, or ends this process after `RETRY_S` so that the next one retries.

    Parameters
    ----------
    warm_up
        Loads the model and runs it once; returns the problem, or None.
    end
        Ends this process immediately.
    """

    def __init__(self, status: ModelStatus, warm_up: Callable[[], str | None], *, end: Callable[[int], Any] = os._exit) -> None:
        self._status = status
        self._warm_up = warm_up
        self._end = end
        self._task_lock = threading.Lock()  # the process ends between two tasks, not within one
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
        """Load the model, or run the loaded one once; returns whether it works.

        Where it does not, this process ends after `RETRY_S`, between two tasks.
        """
        self._status.write(Readiness.LOADING)
        problem = self._warm_up()
        if problem is None:
            self._status.write(Readiness.READY)
            return True
        self._status.write(Readiness.MISSING, problem)
        threading.Thread(target=self._end_later, name="model-retry", daemon=True).start()
        return False

    def _begin_task(self, **_: Any) -> None:
        self._task_lock.acquire(blocking=False)  # already held by the thread that ends this process: the task is redelivered

    def _end_task(self, **_: Any) -> None:
        with contextlib.suppress(RuntimeError):  # not held
            self._task_lock.release()

    def _end_later(self) -> None:
        time.sleep(RETRY_S)
        with self._task_lock:
            self._end(EX_RECYCLE)  # as a child that has reached its number of tasks: the parent replaces it and logs no error


class QueueGate:
    """The parent's side: opens and closes a queue with the readiness of the model. Knows neither clock nor Celery.

    Parameters
    ----------
    open_queue, close_queue
        Start and stop consuming.
    show_missing
        Shows in the monitor that the model is missing; called every `HEARTBEAT_S` while it is.
    show_recovered
        Removes that from the monitor and ends the outage.
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
        show_recovered: Callable[[], None],
        alarm: Callable[[str], None],
    ) -> None:
        self._status = status
        self._open_queue, self._close_queue = open_queue, close_queue
        self._show_missing, self._show_recovered = show_missing, show_recovered
        self._alarm = alarm
        self._is_open = False
        self._loading_since: float | None = None
        self._missing_since: float | None = None
        self._problem = ""
        self._shown_at: float | None = None
        self._reminded_at = 0.0

    def step(self, now: float) -> None:
        """Act on the readiness at `now` (monotonic seconds)."""
        readiness = self._status.readiness
        wanted = readiness is Readiness.READY
        if wanted != self._is_open:
            (self._open_queue if wanted else self._close_queue)()
            self._is_open = wanted  # last: Celery's timer swallows what the call raises, and the next step repeats it
        if readiness is not Readiness.LOADING:
            self._loading_since = None
        elif self._loading_since is None:
            self._loading_since = now
        if readiness is Readiness.MISSING:
            self._missing(now, self._status.problem)
        elif self._loading_since is not None and now - self._loading_since >= LOADING_LIMIT_S:
            self._missing(now, f"it is still not loaded after {LOADING_LIMIT_S:.0f} s; is there enough memory?")
        elif readiness is Readiness.READY and self._missing_since is not None:
            log.info("model_recovered", after_s=round(now - self._missing_since))
            self._missing_since, self._shown_at, self._problem = None, None, ""
            self._show_recovered()

    def _missing(self, now: float, problem: str) -> None:
        if self._missing_since is None:
            self._missing_since = self._reminded_at = now
        if problem != self._problem:
            self._problem = problem
            log.error("model_missing", why=problem, retry_s=RETRY_S)
        elif now - self._reminded_at >= PROBLEM_AFTER_S:
            self._reminded_at = now
            log.error("model_still_missing", why=problem, since_s=round(now - self._missing_since))
            self._alarm(problem)
        if self._shown_at is None or now - self._shown_at >= HEARTBEAT_S:
            self._shown_at = now
            self._show_missing()


def install_queue_gate(app: Celery, status: ModelStatus, queue: str, notice: OneNoticePerOutage) -> None:
    """Make the worker of `app` consume `queue` only while `status` is READY. Call it in the parent, before the worker starts."""

    class Gate(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
        """Runs `QueueGate` in the consumer's event loop."""

        requires = ("celery.worker.consumer.tasks:Tasks",)
        _timer: Any = None

        def start(self, consumer: Any) -> None:
            """Close the queue. Celery calls this also after a lost connection, when it has opened all queues again."""
            monitor = _Monitor(app, consumer.hostname)
            consumer.cancel_task_queue(queue)

            def recovered() -> None:
                notice.reset()  # first: the monitor may be away, and Celery's timer swallows what is raised here
                monitor.recovered()

            gate = QueueGate(
                status,
                open_queue=lambda: consumer.add_task_queue(queue),
                close_queue=lambda: consumer.cancel_task_queue(queue),
                show_missing=monitor.missing,
                show_recovered=recovered,
                alarm=notice.report,
            )
            self._timer = consumer.timer.call_repeatedly(CHECK_INTERVAL_S, lambda: gate.step(time.monotonic()))

        def stop(self, _consumer: Any) -> None:
            if self._timer is not None:  # else the connection broke while `start` closed the queue
                self._timer.cancel()

    app.steps["consumer"].add(Gate)


class _Monitor:
    """Shows a worker without its model in Flower, as a further worker in the list."""

    def __init__(self, app: Celery, hostname: str) -> None:
        name, host = nodesplit(hostname)
        self._app = app
        self._hostname = f"{name}-HAS-NO-MODEL@{host}"

    def missing(self) -> None:
        """Send a heartbeat; Flower shows the line as offline when the next one does not follow."""
        self._send("worker-heartbeat")

    def recovered(self) -> None:
        """Show the line as offline at once."""
        self._send("worker-offline")

    def _send(self, event: str) -> None:
        try:
            with self._app.connection_for_write() as connection, self._app.events.Dispatcher(connection, self._hostname) as sender:
                sender.send(event, freq=HEARTBEAT_S, sw_ident="corewatch", sw_ver="", sw_sys="")
        except (OperationalError, OSError) as error:
            log.warning("missing_model_not_shown_in_monitor", why=type(error).__name__)
