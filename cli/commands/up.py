"""`corewatch up`: all programs, supervised."""

from __future__ import annotations

import logging
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.options import chosen_file, config_option, json_option

if TYPE_CHECKING:
    from types import FrameType

    from cli.supervisor import Program, Supervisor
    from config.settings import Settings
    from foundation.stopping import StopRequest
    from jobs.embedded import EmbeddedRedis

_log = logging.getLogger(__name__)

ASK_EVERY_S = 0.5
"""How often the programs are asked whether they are ready, until they are."""

TELL_EVERY_S = 60.0
"""How often the log names those that are not."""


@click.command()
@config_option
@json_option
def up(config_file: Path | None, as_json: bool) -> None:
    """Run everything, supervised, until SIGTERM or Ctrl-C.

    Starts the DICOM listener, the watch folders, a worker for each queue and the queue's web monitor; without `broker.url` also a
    private Redis. A program that ends is started again. Ctrl-C twice: do not wait for work in hand.
    """
    from cli.lock import sole_user
    from cli.privacy import keep_private
    from config.loading import load_settings
    from config.logging import configure_logging

    file = chosen_file(config_file)
    settings = load_settings(file)
    configure_logging(settings.log, "up")
    signals = _Signals()
    keep_private(settings.data_dir)
    with sole_user(settings.data_dir):
        _run(settings, file, signals, as_json=as_json)


class _Signals:
    """Counts SIGTERM and SIGINT: the first asks to stop, a second one to hurry."""

    def __init__(self) -> None:
        from foundation.stopping import StopRequest

        self._asked = 0
        self.stop = StopRequest()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._asked += 1
        self.stop.handle(number, frame)

    def hurry(self) -> bool:
        return self._asked > 1


def _run(settings: Settings, file: Path | None, signals: _Signals, *, as_json: bool) -> None:
    from cli.children import own_environment, programs
    from cli.credentials import flower_password
    from cli.health import HealthWatch, hears
    from cli.supervisor import POLL_S, Supervisor
    from jobs.app import make_app
    from jobs.embedded import EmbeddedRedis

    # what the settings do not hold; the rest the programs read for themselves
    extra = {"COREWATCH__FLOWER__PASSWORD": flower_password(settings)} if settings.flower.password is None else {}
    kept: list[Program] = []
    redis: EmbeddedRedis | None = None
    if settings.broker.url is not None:
        url = settings.broker.url.get_secret_value()
    else:
        redis = EmbeddedRedis(settings.data_dir / "redis")
        url = redis.start()  # what cannot work from the beginning is said at once, not tried again and again
        extra["COREWATCH__BROKER__URL"] = url
        kept.append(_redis_program(redis))
    kept += programs(file, own_environment(extra), portal=settings.portal is not None)
    supervisor = Supervisor(kept)
    ready = threading.Event()
    names = [program.name for program in kept]
    watcher = threading.Thread(
        target=_wait_until_ready,
        args=(supervisor, names, settings, make_app(url, settings.work.limits), signals.stop, ready),
        daemon=True,
    )
    try:
        supervisor.step()
        watcher.start()
        # its time limit is kept by waiting: the thread ends with the program
        HealthWatch(lambda: hears(settings), lambda: supervisor.condemn("listen"), signals.stop.wait).start()
        while not signals.stop.wait(POLL_S):
            supervisor.step()
            if ready.is_set():
                ready.clear()
                _say(settings, as_json=as_json)
        _log.info("stopping")
    finally:
        supervisor.stop(signals.hurry)
        if redis is not None:
            redis.stop()


def _redis_program(redis: EmbeddedRedis) -> Program:
    from cli.supervisor import Process, Program
    from jobs.embedded import STOP_LIMIT_S

    def start() -> Process:
        running = redis.process
        if running is None or running.poll() is not None:
            redis.start()
            running = redis.process
        assert running is not None
        return running

    return Program("redis", start, 4, STOP_LIMIT_S)


def _wait_until_ready(
    supervisor: Supervisor, names: list[str], settings: Settings, app: Any, stop: StopRequest, ready: threading.Event
) -> None:
    from cli.readiness import consumed_queues, missing
    from daemon.lock import LOCK_FILE

    ports = {"listen": settings.listener.port, "flower": settings.flower.port}
    if settings.portal is not None:
        ports["portal"] = settings.portal.port
    locks = {"watch": settings.data_dir / LOCK_FILE}
    begun = told = time.monotonic()
    while not stop.wait(ASK_EVERY_S):
        waiting = missing({name: supervisor.pid(name) for name in names}, ports, locks, consumed_queues(app))
        if not waiting:
            ready.set()
            return
        if time.monotonic() - told >= TELL_EVERY_S:
            told = time.monotonic()
            _log.warning("not ready after %.0f s: %s; see their lines above", told - begun, ", ".join(waiting))


def _say(settings: Settings, *, as_json: bool) -> None:
    from cli.addresses import addresses_of, say, text_of

    addresses = addresses_of(settings)
    _log.info("ready: %s listens at %s, queue monitor at %s", addresses.ae_title, addresses.listener, addresses.flower)
    if not say(text_of(addresses, as_json=as_json)):
        _log.warning("standard output cannot be written")
