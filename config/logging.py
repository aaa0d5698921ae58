"""Logging setup of all programs: one line per event to standard error, as text or JSON, with the case id if there is one.

Log lines contain no patient data, only our ids, counts and reasons. The loggers of pydicom and pynetdicom, which print data sets at
lower levels, are always set to WARNING or above.
"""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Any

import structlog

from config.settings import LogSettings

_QUIET = (
    "pydicom",
    "pynetdicom",
    "highdicom",
    "PIL",
    "matplotlib",
    "h5py",
    "watchdog",
    "alembic",
    "tornado.access",
    "mail.log",
    "celery.worker.strategy",
    "celery.app.trace",
)


def configure_logging(settings: LogSettings, program: str) -> None:
    """Set up the root logger; `program` is a field of every line. Called once, when a program starts."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _program(program),
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if settings.format == "json"
        else structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "program", "event"], sort_keys=False)
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level)
    # a service does not run as root; in a demonstration Celery's warning of four lines per worker would hide other lines
    warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    # pydicom's warnings quote values of the data set
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"pydicom(\..*)?$")
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # loggers that were used before this call must follow it too
    )


def _program(name: str) -> Any:
    def add(_logger: Any, _method: str, event: Any) -> Any:
        event.setdefault("program", name)
        return event

    return add
