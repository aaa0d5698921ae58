"""The daemon program: watch folders, assembler, dispatcher, reconciler and retention."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from types import FrameType

import structlog

from config.settings import Settings
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

STOP_TIMEOUT_S = 30.0
"""How long a part may take to end its present step. Whatever it was doing then is done again at the next start."""


def serve(settings: Settings, publish: Publish, *, stop: threading.Event | None = None) -> None:
    """Run until SIGTERM or SIGINT, or until `stop` is set.

    Parameters
    ----------
    publish
        Hands work to the broker (`jobs.publishing.Publisher`).

    Raises
    ------
    ConfigurationError
        Another daemon works in the data folder, or the folder or a watched folder cannot be used.
    """
    stop = stop or threading.Event()
    with ExitStack() as stack:
        stack.enter_context(_signals(stop))
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
        stop.wait()
        log.info("stopping")
    log.info("stopped")


def _parts(ledger: Ledger, settings: Settings, publish: Publish) -> tuple[list[Part], WatchFolder]:
    dispatcher = Dispatcher(ledger.outbox, publish)
    assembler, retention = Assembler(ledger, settings), Retention(ledger, settings)
    reconciler, refused = Reconciler(ledger, settings.deliver.notices), RefusedDrops(ledger, settings)

    def clear(now: datetime) -> None:
        dispatcher.purge(now)
        retention.step(now)

    dispatching = Part("dispatcher", dispatcher.step, PUBLISH_EVERY_S)
    parts = [
        dispatching,
        Part("assembler", assembler.step, ASSEMBLE_EVERY_S, after=dispatching),
        Part("refused drops", refused.step, ASSEMBLE_EVERY_S, after=dispatching),
        Part("reconciler", reconciler.step, RECONCILE_EVERY_S, after=dispatching),
        Part("retention", clear, CLEAR_EVERY_S),
    ]
    return parts, WatchFolder(settings, refused.put)


def _stop(parts: list[Part]) -> None:
    for part in parts:
        part.ask_to_stop()
    for part in parts:
        if not part.join(STOP_TIMEOUT_S):
            log.error("a part of the daemon does not end", part=part.name)


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """Set `stop` at SIGTERM and SIGINT; only the main thread of a program may ask for signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
