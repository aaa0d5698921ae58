"""The daemon program: turns drops and arrivals into cases, hands their work to the broker, and keeps the data folder in order."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from datetime import datetime, timedelta

import structlog

from config.settings import Settings
from daemon.components import Component, Components, PeriodicThread
from daemon.intake import Assembler, ExpectedCounts
from daemon.upkeep import (
    AuditForwarder,
    DiskWatch,
    Dispatcher,
    Publish,
    Reconciler,
    Retention,
    StorageCommitment,
    WaitingCasesWatch,
    escalate_alerts,
)
from daemon.watch import RejectionRecorder, WatchFolders
from foundation.clock_watch import NONE, ClockWatch
from foundation.durable import make_folders
from foundation.lock import DAEMON_LOCK, sole_program
from foundation.service_manager import ServiceManager
from foundation.stopping import StopRequest
from ledger.store import Ledger

log = structlog.get_logger()

DISPATCH_INTERVAL_S = 0.2
ASSEMBLE_INTERVAL_S = 0.2
COMMITMENT_INTERVAL_S = 1.0
RECONCILE_INTERVAL_S = 5.0
ESCALATE_INTERVAL_S = 5.0
AUDIT_INTERVAL_S = 5.0
DISK_INTERVAL_S = 10.0
WAITING_INTERVAL_S = 10.0
RETENTION_INTERVAL_S = 3600.0
HEALTH_INTERVAL_S = 1.0

MAX_CLOCK_JUMP = timedelta(hours=1)
"""After the clock was set forward by more, every file looks old: retention skips one interval, time to correct it."""


def serve(settings: Settings, publish: Publish, *, stop: StopRequest | None = None) -> None:
    """Run until SIGTERM or SIGINT, or until another thread requests `stop`.

    The service manager is notified when the daemon is ready, and periodically while every component works.

    Parameters
    ----------
    publish
        Hands work to the broker (`jobs.publishing.Publisher`).

    Raises
    ------
    ConfigurationError
        Another daemon works in the data folder, or the folder or a watched folder cannot be used.
    """
    stop = stop or StopRequest()
    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            stack.enter_context(stop.on_signals())
        stack.enter_context(sole_program(settings.data_dir, DAEMON_LOCK, "corewatch daemon"))
        make_folders(settings.received_dir)
        ledger = Ledger(settings.database_url, lease_s=settings.work.lease_s)
        stack.callback(ledger.close)
        expected = ExpectedCounts.from_settings(settings)
        stack.callback(expected.close)
        components = Components(_components(ledger, settings, publish, expected))
        ledger.note("program.started", program="watch")
        stack.callback(ledger.note, "program.stopped", program="watch")
        stack.callback(components.stop)
        components.start()
        log.info("ready", data_dir=str(settings.data_dir), folders=len(settings.watch.folders))
        manager = ServiceManager()
        manager.ready()
        while not stop.wait(HEALTH_INTERVAL_S):
            if components.are_working(time.monotonic()):
                manager.alive()
        manager.stopping()
        log.info("stopping")
    log.info("stopped")


def _components(ledger: Ledger, settings: Settings, publish: Publish, expected: ExpectedCounts) -> list[Component]:
    """Everything that the daemon does. `wakes` of a thread, like `requires`, also orders start and stop."""
    dispatcher = Dispatcher(ledger.outbox, publish)
    assembler = Assembler(ledger, settings, expected=expected)
    reconciler, retention = Reconciler(ledger), Retention(ledger, settings)
    clocks = {name: ClockWatch() for name in ("assembler", "reconciler", "retention")}

    def assemble(now: datetime) -> int:
        if clocks["assembler"].observe(now) != NONE:
            assembler.clock_jumped(now)
        return assembler.step(now)

    def reconcile(now: datetime) -> int:
        jump = clocks["reconciler"].observe(now) or ledger.clock_shift.set_back_meanwhile(now)
        if jump != NONE:
            log.error("clock_set", by_s=round(jump.total_seconds(), 1), effect="leases and waits are shifted by as much")
            ledger.clock_shift.shift(jump, now)
        return reconciler.step(now)

    def clear(now: datetime) -> None:
        if clocks["retention"].observe(now) > MAX_CLOCK_JUMP:
            log.error("retention_postponed", why="the clock was set forward", retry_in_s=RETENTION_INTERVAL_S)
            return
        dispatcher.purge(now)
        retention.step(now)

    dispatching = PeriodicThread("dispatcher", dispatcher.step, DISPATCH_INTERVAL_S)
    components: list[Component] = [
        WatchFolders(settings, RejectionRecorder(ledger, settings).record),
        PeriodicThread("assembler", assemble, ASSEMBLE_INTERVAL_S, due_in_s=assembler.due_in_s, wakes=dispatching),
        dispatching,
        PeriodicThread("reconciler", reconcile, RECONCILE_INTERVAL_S, wakes=dispatching),
        PeriodicThread("commitment", StorageCommitment(ledger, settings).step, COMMITMENT_INTERVAL_S, wakes=dispatching),
        PeriodicThread("escalation", lambda now: escalate_alerts(ledger, now), ESCALATE_INTERVAL_S, wakes=dispatching),
        PeriodicThread("retention", clear, RETENTION_INTERVAL_S),
        PeriodicThread("disk", DiskWatch(settings).step, DISK_INTERVAL_S),
        PeriodicThread("waiting", WaitingCasesWatch(ledger, settings).step, WAITING_INTERVAL_S),
    ]
    if settings.audit.syslog is not None:
        forwarder = AuditForwarder(ledger, settings, settings.audit.syslog)
        components.append(PeriodicThread("audit", forwarder.step, AUDIT_INTERVAL_S))
    return components
