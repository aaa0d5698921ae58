"""`corewatch up`: all programs, supervised, and the addresses where they are reached."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.data_folder import password_file
from cli.options import chosen_file, config_option, json_option
from corewatch import RESEARCH_LABEL

if TYPE_CHECKING:
    from types import FrameType

    from cli.supervisor import Program, Supervisor
    from config.settings import Settings
    from foundation.stopping import StopRequest
    from jobs.embedded import EmbeddedRedis

_log = logging.getLogger(__name__)

READINESS_EVERY_S = 0.5
"""Interval of the readiness check, until all programs are ready."""

RELOAD_SIGNAL = signal.SIGUSR1
"""Sent by `corewatch reload`. SIGHUP does the same where there is no terminal."""

_OWN_KEYS = frozenset({"data_dir", "flower.password", "portal"})
_OWN_SECTIONS = ("broker.",)
"""What a change of these needs a restart of `corewatch up` itself for."""

WARN_EVERY_S = 60.0
"""Interval at which the log names the programs that are not ready."""


@click.command()
@config_option
@json_option
def up(config_file: Path | None, as_json: bool) -> None:
    """Run everything, supervised, until SIGTERM or Ctrl-C.

    Starts the DICOM listener, the watch folders, a worker for each queue and the queue's web monitor; without `broker.url` also a
    private Redis. A program that ends is started again. Ctrl-C twice: do not wait for running tasks.
    """
    from cli.data_folder import make_private
    from config.loading import load_settings
    from config.logging import configure_logging
    from foundation.lock import UP_LOCK, sole_program

    file = chosen_file(config_file)
    settings = load_settings(file)
    configure_logging(settings.log, "up")
    signals = _Signals()
    make_private(settings.data_dir)
    with sole_program(settings.data_dir, UP_LOCK, "`corewatch up`"):
        _run(settings, file, signals, as_json=as_json)


class _Signals:
    """Counts SIGTERM and SIGINT: the first stops, the second stops without waiting."""

    def __init__(self) -> None:
        from foundation.stopping import StopRequest

        self._received = 0
        self._reload = False
        self.stop = StopRequest()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(RELOAD_SIGNAL, self._on_reload)
        if not _has_terminal():  # a terminal that closes sends SIGHUP too
            signal.signal(signal.SIGHUP, self._on_reload)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._received += 1
        self.stop.handle(number, frame)

    def _on_reload(self, _number: int, _frame: FrameType | None) -> None:
        self._reload = True

    def take_reload(self) -> bool:
        """Whether a reload was asked for since the last call."""
        asked, self._reload = self._reload, False
        return asked

    def hurry(self) -> bool:
        return self._received > 1


def _has_terminal() -> bool:
    """Whether this process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _run(settings: Settings, file: Path | None, signals: _Signals, *, as_json: bool) -> None:
    from cli.children import own_environment, programs
    from cli.data_folder import broker_url, flower_password
    from cli.program_health import PROBE_LIMIT_S, Probe, listener_answers
    from cli.supervisor import POLL_S, Supervisor
    from config.running_programs import publish
    from jobs.app import make_app
    from jobs.embedded import EmbeddedRedis, answers

    # the programs read the settings themselves; these values are not in them
    extra = {"COREWATCH__FLOWER__PASSWORD": flower_password(settings)} if settings.flower.password is None else {}
    supervised: list[Program] = []
    redis: EmbeddedRedis | None = None
    if settings.broker.url is not None:
        url = broker_url(settings)
    else:
        redis = EmbeddedRedis(settings.data_dir / "redis")
        url = redis.start()  # a broker that cannot start now is reported at once, not retried
        extra["COREWATCH__BROKER__URL"] = url
        supervised.append(_redis_program(redis))
    supervised += programs(file, own_environment(extra), portal=settings.portal is not None)
    supervisor = Supervisor(supervised)
    ready = threading.Event()
    names = [program.name for program in supervised]
    watcher = threading.Thread(
        target=_wait_until_ready,
        args=(supervisor, names, settings, make_app(url, settings.work.limits), signals.stop, ready),
        daemon=True,
    )
    publication = publish(settings, file, "up")
    try:
        supervisor.step()
        watcher.start()
        present = [settings]
        probes = {"listen": lambda: listener_answers(present[0])}
        if redis is not None:
            probes["redis"] = lambda: answers(url, PROBE_LIMIT_S)
        for program, probe in probes.items():
            Probe(program, probe, partial(supervisor.request_restart, program), signals.stop.wait).start()
        while not signals.stop.wait(POLL_S):
            supervisor.step()
            if signals.take_reload():
                present[0] = _reload(present[0], file, supervisor)
                if publication is not None:
                    publication.withdraw()
                publication = publish(present[0], file, "up")
            if ready.is_set():
                ready.clear()
                _print_addresses(settings, as_json=as_json)
        _log.info("stopping")
    finally:
        supervisor.stop(signals.hurry)
        if publication is not None:
            publication.withdraw()
        if redis is not None:
            redis.stop()


def _reload(present: Settings, file: Path | None, supervisor: Supervisor) -> Settings:
    """Load the settings again and restart the programs that they concern; returns the settings in effect."""
    from config.loading import load_settings
    from config.mistakes import mistakes
    from config.running_programs import changed_keys, digests, outdated_programs
    from corewatch.errors import ConfigurationError

    try:
        changed = load_settings(file)
        wrong = "; ".join(map(str, mistakes(changed)))
    except (ConfigurationError, OSError) as error:
        wrong = str(error)
    if wrong:
        _log.error("the settings cannot work, so the programs keep those that they have: %s", wrong)
        return present
    data_dir = present.data_dir
    keys = changed_keys(digests(present, data_dir), digests(changed, data_dir))
    if own := [key for key in keys if key in _OWN_KEYS or key.startswith(_OWN_SECTIONS)]:
        _log.error("%s: restart `corewatch up` to change this; nothing was changed", ", ".join(own))
        return present
    names = [one.program.name for one in outdated_programs(data_dir) if one.program.name != "up"]
    supervisor.restart(names)
    _log.info("settings loaded again (%s): restarting %s", ", ".join(keys) or "no change", ", ".join(names) or "nothing")
    return changed


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
    from cli.program_health import consumed_queues, not_ready
    from foundation.lock import DAEMON_LOCK

    ports = {"listen": settings.listener.port, "flower": settings.flower.port}
    if settings.portal is not None:
        ports["portal"] = settings.portal.port
    locks = {"watch": settings.data_dir / DAEMON_LOCK}
    begun = warned = time.monotonic()
    while not stop.wait(READINESS_EVERY_S):
        waiting = not_ready({name: supervisor.pid(name) for name in names}, ports, locks, consumed_queues(app))
        if not waiting:
            ready.set()
            return
        if time.monotonic() - warned >= WARN_EVERY_S:
            warned = time.monotonic()
            _log.warning("not ready after %.0f s: %s; see their lines above", warned - begun, ", ".join(waiting))


def _print_addresses(settings: Settings, *, as_json: bool) -> None:
    addresses = addresses_of(settings)
    _log.info("ready: %s listens at %s, queue monitor at %s", addresses.ae_title, addresses.listener, addresses.flower)
    if not write_stdout(format_addresses(addresses, as_json=as_json)):
        _log.warning("standard output cannot be written")


@dataclass(frozen=True, slots=True)
class Addresses:
    """Addresses of the running programs, and of the destinations."""

    ae_title: str
    listener: str
    watch_folders: tuple[str, ...]
    destinations: tuple[str, ...]
    flower: str
    flower_user: str
    flower_password_file: str | None
    data_dir: str
    model: str
    notice: str = RESEARCH_LABEL


def addresses_of(settings: Settings) -> Addresses:
    """Addresses from the settings."""
    deliver, flower = settings.deliver, settings.flower
    destinations = [f"PACS {pacs.name} ({pacs.ae_title} at {pacs.host}:{pacs.port})" for pacs in deliver.pacs]
    if deliver.folder is not None:
        destinations.append(f"folder {deliver.folder.path}")
    if deliver.email is not None:
        destinations.append(f"e-mail by {deliver.email.host}:{deliver.email.port}")
    return Addresses(
        ae_title=settings.listener.ae_title,
        listener=f"{settings.listener.host}:{settings.listener.port}",
        watch_folders=tuple(str(folder.path) for folder in settings.watch.folders),
        destinations=tuple(destinations),
        flower=f"http://{flower.host}:{flower.port}",
        flower_user=flower.user,
        flower_password_file=None if flower.password is not None else str(password_file(settings.data_dir)),
        data_dir=str(settings.data_dir),
        model=settings.model.name,
    )


def format_addresses(addresses: Addresses, *, as_json: bool) -> str:
    """The addresses as a table, or as one line of JSON."""
    if as_json:
        return json.dumps(asdict(addresses)) + "\n"
    from rich.table import Table

    from cli.console import PlainConsole

    table = Table(title="corewatch is running", title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("DICOM listener", f"{addresses.ae_title} at {addresses.listener}")
    for folder in addresses.watch_folders:
        table.add_row("Watch folder", folder)
    for destination in addresses.destinations:
        table.add_row("Results go to", destination)
    stored = f", password in {addresses.flower_password_file}" if addresses.flower_password_file else ""
    table.add_row("Queue monitor", f"{addresses.flower} (user {addresses.flower_user}{stored})")
    table.add_row("Model", addresses.model)
    table.add_row("Data", addresses.data_dir)
    console = PlainConsole()
    with console.capture() as captured:
        console.print(table)
        console.print(addresses.notice, style="yellow")
    return captured.get()


def write_stdout(text: str) -> bool:
    """Write to standard output; whether that worked. A closed pipe is no reason to stop: output is then discarded."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except (OSError, ValueError):
        # the buffer would fail again at the end of the program, and change its exit code
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return False
    return True
