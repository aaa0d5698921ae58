"""Flower, the web monitor of the queue, in this process.

It is read-only: an operator changes a case with `corewatch cases`, which records it in the audit trail. Neither the broker's
URL nor the password is on a command line, which every user of the machine could read.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any, Final

from celery import Celery
from flower.app import Flower
from flower.command import apply_env_options
from flower.options import default_options
from flower.urls import settings as web_settings
from flower.views.workers import WorkersView
from tornado.ioloop import PeriodicCallback
from tornado.web import url

from config.settings import FlowerSettings
from corewatch.errors import ConfigurationError
from foundation.service_manager import ServiceManager

_log = logging.getLogger(__name__)

MAX_TASKS = 10_000
"""Tasks kept in memory for the pages."""

SAVE_INTERVAL_MS = 300_000
"""Interval at which the history is saved, so that a restart does not empty the pages."""

_CONTENT: Final = b'<div class="page-section workers-page">'
"""Begin of the content of Flower's list of workers."""

ALIVE_INTERVAL_MS = 1000
"""Interval at which the event loop shows that it runs."""


class _Workers(WorkersView):  # type: ignore[misc]  # Flower has no types
    """Flower's list of workers, with a line above it for every program that has to be restarted."""

    def initialize(self, notices: Callable[[], list[str]]) -> None:
        """Called by Tornado before each request."""
        self._notices = notices

    def render_string(self, template_name: str, **values: Any) -> bytes:
        """Render the page, and put the notices in front of its content."""
        page: bytes = super().render_string(template_name, **values)
        lines = "".join(f"<li>{escape(line)}</li>" for line in self._notices())
        box = f'<ul class="alert alert-warning list-unstyled m-3" role="status">{lines}</ul>' if lines else ""
        return page.replace(_CONTENT, box.encode() + _CONTENT, 1)


def serve(app: Celery, settings: FlowerSettings, password: str, history: Path, notices: Callable[[], list[str]] = list) -> None:
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
    notices
        Returns the lines that are shown above the list of workers.

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
    prefix = f"/{settings.url_prefix}" if settings.url_prefix else ""
    flower.add_handlers(r".*", [url(f"{prefix}/(?:workers)?", _Workers, {"notices": notices})])
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
