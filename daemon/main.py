"""The daemon program: watch folders, assembler, dispatcher, reconciler and retention."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from datetime import datetime

import structlog

from config.settings import Settings
from config.stopping import StopRequest
from daemon.assembler import Assembler
from daemon.dispatcher import Dispatcher, Publish
from daemon.lock import only_daemon
from daemon.parts import Part
from daemon.reconciler import Reconciler
from daemon.refused_drops import RefusedDrops
from daemon.retention import Retention
from daemon.watch_folder import WatchFolder
from ledger.store import Ledger

log = structlog.get_logger()

ASSEMBLE_EVERY_S = 0.2
PUBLISH_EVERY_S = 0.2
RECONCILE_EVERY_S = 5.0
CLEAR_EVERY_S = 3600.0
WAKE_EVERY_S = 3600.0

STOP_TIMEOUT_S = 30.0
"""How long a part may take to end its present step. Whatever it was doing then is done again at the next start."""


def serve(settings: Settings, publish: Publish, *, stop: StopRequest | None = None) -> None:
    """Run until SIGTERM or SIGINT, or until `stop` is requested by another thread.

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
        stack.enter_context(only_daemon(settings.data_dir))
        settings.received_dir.mkdir(parents=True, exist_ok=True)
        ledger = Ledger(settings.database_url)
        stack.callback(ledger.close)
        parts, watch = _parts(ledger, settings, publish)
        stack.callback(_stop, parts)
        for part in parts:
            part.start()
        watch.start()
        stack.callback(watch.stop)
        log.info("ready", data_dir=str(settings.data_dir), folders=len(settings.watch.folders))
        while not stop.wait(WAKE_EVERY_S):
            pass
        log.info("stopping")
    log.info("stopped")


def _parts(ledger: Ledger, settings: Settings, publish: Publish) -> tuple[list[Part], WatchFolder]:
    dispatcher = Dispatcher(ledger.outbox, publish)
    assembler, retention = Assembler(ledger, settings), Retention(ledger, settings)
    reconciler, refused = Reconciler(ledger), RefusedDrops(ledger, settings)

    def clear(now: datetime) -> None:
        dispatcher.purge(now)
        retention.step(now)

    dispatching = Part("dispatcher", dispatcher.step, PUBLISH_EVERY_S)
    parts = [
        dispatching,
        Part("assembler", assembler.step, ASSEMBLE_EVERY_S, due_in_s=assembler.due_in_s, after=dispatching),
        Part("reconciler", reconciler.step, RECONCILE_EVERY_S, after=dispatching),
        Part("retention", clear, CLEAR_EVERY_S),
    ]
    return parts, WatchFolder(settings, refused.report)


def _stop(parts: list[Part]) -> None:
    for part in parts:
        part.ask_to_stop()
    for part in parts:
        if not part.join(STOP_TIMEOUT_S):
            log.error("a part of the daemon does not end", part=part.name)
