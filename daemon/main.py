"""The daemon program: watch folders, assembler, dispatcher, reconciler and retention."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta

import structlog

from config.settings import Settings
from daemon.intake.assembler import Assembler
from daemon.intake.expected_counts import AskCount, ExpectedCounts
from daemon.periodic import Part
from daemon.upkeep.audit_forwarding import PASS_ON_EVERY_S, Auditing
from daemon.upkeep.commitment import Commitment, send_over_network
from daemon.upkeep.disk import LOOK_EVERY_S as LOOK_AT_DISK_EVERY_S
from daemon.upkeep.disk import DiskWatch
from daemon.upkeep.dispatcher import Dispatcher, Publish
from daemon.upkeep.escalation import LOOK_EVERY_S, Escalating
from daemon.upkeep.reconciler import Reconciler
from daemon.upkeep.retention import Retention
from daemon.watch.folder import WatchFolders
from daemon.watch.rejection import RejectionRecorder
from foundation.clock_watch import NONE, ClockWatch
from foundation.durable import make_folders
from foundation.lock import DAEMON_LOCK, sole_program
from foundation.service_manager import ServiceManager
from foundation.stopping import StopRequest
from ledger.store import Ledger

log = structlog.get_logger()

ASSEMBLE_EVERY_S = 0.2
PUBLISH_EVERY_S = 0.2
RECONCILE_EVERY_S = 5.0
COMMITMENT_EVERY_S = 1.0
CLEAR_EVERY_S = 3600.0
LOOK_AT_PARTS_EVERY_S = 1.0

LONGEST_JUMP = timedelta(hours=1)
"""A clock that is set forward by more makes everything look old: retention waits for one interval, in which it may be put right."""

HANGS_AFTER_S = 900.0
"""A step of a part that takes longer hangs: what it has done is committed, and whoever restarts the program loses nothing."""

STOP_TIMEOUT_S = 30.0
"""How long a part may take to end its present step. Whatever it was doing then is done again at the next start."""


def serve(
    settings: Settings,
    publish: Publish,
    *,
    ask_count: AskCount | None = None,
    stop: StopRequest | None = None,
) -> None:
    """Run until SIGTERM or SIGINT, or until `stop` is requested by another thread.

    A service manager hears that the daemon is ready, and then again and again that it works, as long as no part of it hangs.

    Parameters
    ----------
    publish
        Hands work to the broker (`jobs.publishing.Publisher`).
    ask_count
        Asks a PACS how many images a series has; None: nobody is asked.

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
        expected = ExpectedCounts(settings.asked_sources, ask_count)
        stack.callback(expected.close)
        parts, watch = _parts(ledger, settings, publish, expected)
        disk = DiskWatch(settings)
        parts.append(Part("disk", disk.step, LOOK_AT_DISK_EVERY_S))
        stack.callback(_stop, parts)
        ledger.note("program.started", program="watch")
        stack.callback(ledger.note, "program.stopped", program="watch")
        for part in parts:
            part.start()
        watch.start()
        stack.callback(watch.stop)
        log.info("ready", data_dir=str(settings.data_dir), folders=len(settings.watch.folders))
        manager = ServiceManager()
        manager.ready()
        health = Health(parts, lambda: watch.alive)
        while not stop.wait(LOOK_AT_PARTS_EVERY_S):
            if health.good(time.monotonic()):
                manager.alive()
        manager.stopping()
        log.info("stopping")
    log.info("stopped")


def _parts(ledger: Ledger, settings: Settings, publish: Publish, expected: ExpectedCounts) -> tuple[list[Part], WatchFolders]:
    dispatcher = Dispatcher(ledger.outbox, publish)
    assembler, retention = Assembler(ledger, settings, expected=expected), Retention(ledger, settings)
    reconciler, refused = Reconciler(ledger), RejectionRecorder(ledger, settings)
    commitment = Commitment(ledger, settings, send_over_network(settings))

    clocks = {name: ClockWatch() for name in ("assembler", "reconciler", "retention")}

    def assemble(now: datetime) -> int:
        if clocks["assembler"].observe(now) != NONE:
            assembler.clock_jumped(now)
        return assembler.step(now)

    def reconcile(now: datetime) -> int:
        jump = clocks["reconciler"].observe(now) or ledger.clock_shift.set_back_meanwhile(now)
        if jump != NONE:
            log.error("the clock was set; leases and waits are moved along", seconds=round(jump.total_seconds(), 1))
            ledger.clock_shift.shift(jump, now)
        return reconciler.step(now)

    def clear(now: datetime) -> None:
        if clocks["retention"].observe(now) > LONGEST_JUMP:
            log.error("the clock was set forward; nothing is removed for its age before the next look", again_in_s=CLEAR_EVERY_S)
            return
        dispatcher.purge(now)
        retention.step(now)

    dispatching = Part("dispatcher", dispatcher.step, PUBLISH_EVERY_S)
    parts = [
        dispatching,
        Part("assembler", assemble, ASSEMBLE_EVERY_S, due_in_s=assembler.due_in_s, after=dispatching),
        Part("reconciler", reconcile, RECONCILE_EVERY_S, after=dispatching),
        Part("commitment", commitment.step, COMMITMENT_EVERY_S, after=dispatching),
        Part("escalation", Escalating(ledger).step, LOOK_EVERY_S, after=dispatching),
        Part("retention", clear, CLEAR_EVERY_S),
    ]
    if settings.audit.syslog is not None:
        parts.append(Part("audit", Auditing(ledger, settings, settings.audit.syslog).step, PASS_ON_EVERY_S))
    return parts, WatchFolders(settings, refused.record)


class Health:
    """Whether every part of the program works; what does not is said once."""

    def __init__(self, parts: Sequence[Part], watch_alive: Callable[[], bool]) -> None:
        self._parts = parts
        self._watch_alive = watch_alive
        self._said: set[str] = set()

    def good(self, now_s: float) -> bool:
        """Whether all works at this moment of the monotonic clock."""
        hanging = {part.name for part in self._parts if not part.alive or part.busy_for_s(now_s) > HANGS_AFTER_S}
        if not self._watch_alive():
            hanging.add("watch folder")
        for name in sorted(hanging - self._said):
            log.error("a part of the daemon hangs; under systemd the daemon is started anew", part=name)
        self._said = hanging
        return not hanging


def _stop(parts: list[Part]) -> None:
    for part in parts:
        part.ask_to_stop()
    for part in parts:
        if not part.join(STOP_TIMEOUT_S):
            log.error("a part of the daemon does not end", part=part.name)
