"""Liveness of the worker program: reports to the service manager, or to `corewatch up`, while it works.

The consumer's event loop ticks every second. Between two connections to the broker there is no loop, and the worker counts as
working. A child process accepts a message at once, so one that stays unaccepted means that the children hang: Celery's time limits
count only from the acceptance.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from typing import Any, Final

import structlog
from celery import Celery, bootsteps, signals
from celery.worker import state

from foundation.outages import OutageTracker
from foundation.service_manager import ServiceManager

log = structlog.get_logger()

TICK_S: Final = 1.0
"""Interval of the ticks, and of the reports."""

LOOP_LIMIT_S: Final = 60.0
"""An event loop that does not tick this long hangs."""

ACCEPT_LIMIT_S: Final = 240.0
"""A message that no child process accepts this long means that they hang. A new child may need 180 s to load its model."""


class Liveness:
    """Decides whether the worker works. Knows neither clock nor Celery; times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._ticked_at: float | None = None
        self._unaccepted: dict[str, float] = {}

    def tick(self, now: float, unaccepted: Collection[str]) -> None:
        """The event loop runs; `unaccepted` are the ids of messages that were handed to the children and not accepted yet."""
        self._unaccepted = {message: self._unaccepted.get(message, now) for message in unaccepted}
        self._ticked_at = now

    def disconnected(self) -> None:
        """The consumer has stopped: there is no event loop until it is connected again."""
        self._ticked_at = None
        self._unaccepted = {}

    def problem(self, now: float) -> str | None:
        """Why the worker counts as hanging; None: it works."""
        if self._ticked_at is not None and now - self._ticked_at >= LOOP_LIMIT_S:
            return "its event loop does not run"
        if any(now - since >= ACCEPT_LIMIT_S for since in tuple(self._unaccepted.values())):
            return "its child processes take no task"
        return None


def unaccepted_messages() -> set[str]:
    """Ids of the messages that this worker has received and no child process has accepted."""
    return {request.id for request in state.reserved_requests} - {request.id for request in state.active_requests}


def install_liveness(app: Celery, clock: Callable[[], float] = time.monotonic) -> None:
    """Make the worker of `app` report that it is ready and, while it works, that it is alive. Call it in the parent process."""
    liveness, outage, service = Liveness(), OutageTracker(), ServiceManager()

    class Ticks(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
        """Ticks in the consumer's event loop."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, consumer: Any) -> None:
            """Tick from now on; Celery calls this after each connection."""
            self._timer = consumer.timer.call_repeatedly(TICK_S, lambda: liveness.tick(clock(), unaccepted_messages()))

        def stop(self, _consumer: Any) -> None:
            """The connection is lost, or the worker stops."""
            self._timer.cancel()
            liveness.disconnected()

    def report() -> None:
        while True:
            problem = liveness.problem(clock())
            if problem is None:
                outage.recovered()
                service.alive()
            elif outage.failed():
                log.error("worker_hangs", why=problem, effect="its service manager restarts it")
            time.sleep(TICK_S)

    def begin(**_: Any) -> None:
        service.ready()
        threading.Thread(target=report, name="worker-liveness", daemon=True).start()

    app.steps["consumer"].add(Ticks)
    signals.worker_init.connect(begin, weak=False)
    signals.worker_shutting_down.connect(lambda **_: service.stopping(), weak=False)
