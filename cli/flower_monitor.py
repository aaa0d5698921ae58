"""Flower, the web monitor of the queue, in this process.

It is read-only: an operator changes a case with `corewatch cases`, which records it in the audit trail. Neither the broker's
URL nor the password is on a command line, which every user of the machine could read.
"""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from typing import Any

from celery import Celery
from flower.app import Flower
from flower.command import apply_env_options
from flower.options import default_options
from flower.urls import settings as web_settings
from tornado.ioloop import PeriodicCallback

from config.settings import FlowerSettings
from corewatch.errors import ConfigurationError
from foundation.service_manager import ServiceManager

_log = logging.getLogger(__name__)

MAX_TASKS = 10_000
"""Tasks kept in memory for the pages."""

SAVE_INTERVAL_MS = 300_000
"""Interval at which the history is saved, so that a restart does not empty the pages."""

ALIVE_INTERVAL_MS = 1000
"""Interval at which the event loop shows that it runs."""


def serve(app: Celery, settings: FlowerSettings, password: str, history: Path) -> None:
    """Serve the pages until SIGTERM or SIGINT.

    Parameters
    ----------
    app
        Celery application of the broker.
    settings
        Address and user.
    password
        The user's password.
    history
        File that keeps the shown tasks over a restart.

    Raises
    ------
    ConfigurationError
        Flower cannot listen at `host` and `port`.
    """
    default_options.address = settings.host
    default_options.port = settings.port
    default_options.basic_auth = [f"{settings.user}:{password}"]
    default_options.read_only = True
    default_options.max_tasks = MAX_TASKS
    default_options.persistent = True
    default_options.db = str(history)
    default_options.state_save_interval = SAVE_INTERVAL_MS
    default_options.purge_offline_workers = 60  # so that restarted workers do not remain as dead ones
    if settings.url_prefix:
        default_options.url_prefix = settings.url_prefix
        for name in ("login_url", "static_url_prefix"):  # as Flower's own command does
            web_settings[name] = f"/{settings.url_prefix}{web_settings[name]}"
    apply_env_options()  # FLOWER_* as Flower's manual describes them, for example single sign-on
    # a worker that is starting does not answer, and a reader's wrong request is nothing for the operator
    for name in ("flower.inspector", "tornado.general", "tornado.access"):
        logging.getLogger(name).setLevel(logging.ERROR)
    flower = Flower(capp=app, options=default_options, **web_settings)
    try:
        port = flower.start_http_server()
    except OSError as error:
        raise ConfigurationError(
            f"flower.host, flower.port: cannot listen at {settings.host}:{settings.port} ({error.strerror})",
            "choose a free port, or stop the program that uses it",
        ) from error

    def stop(_number: int, _frame: Any) -> None:
        flower.io_loop.add_callback_from_signal(flower.stop)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    manager = ServiceManager()
    manager.ready()
    PeriodicCallback(manager.alive, ALIVE_INTERVAL_MS).start()
    _log.info("the queue monitor listens at http://%s:%s", settings.host, port)
    flower.start()
