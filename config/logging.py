"""Logging setup of all programs: one line per event to standard error, as text or JSON, with the case id if there is one.

Log lines contain no patient data, only our ids, counts and reasons. The loggers of pydicom and pynetdicom, which print data sets at
lower levels, are always set to WARNING or above.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from types import TracebackType
from typing import Any, Final

import structlog

from config.settings import LogSettings

_QUIET = (
    "pydicom",
    "pynetdicom",
    "highdicom",
    "PIL",
    "h5py",
    "watchdog",
    "alembic",
    "tornado.access",
    "mail.log",
    "celery.worker.strategy",
    "celery.app.trace",
)

_PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""Lowest level -> priority of syslog(3)."""

_structured = False


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
        (_JournalFormatter if _stderr_is_journal() else structlog.stdlib.ProcessorFormatter)(
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
    # every line is a line of the log: warnings, and exceptions that nothing caught
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda thread: _log_uncaught(thread.exc_type, thread.exc_value, thread.exc_traceback)
    global _structured
    _structured = settings.format == "json" or isinstance(handler.formatter, _JournalFormatter)
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


def is_structured() -> bool:
    """Whether `configure_logging` has set up lines for another program: JSON, or the journal."""
    return _structured


class _JournalFormatter(structlog.stdlib.ProcessorFormatter):
    """Begins each line with its priority (sd-daemon(3)), which the journal takes off and keeps."""

    def format(self, record: logging.LogRecord) -> str:
        """Format the record; a multi-line one gets the priority on each line."""
        prefix = f"<{_priority(record.levelno)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())


def _priority(level: int) -> int:
    """Priority of syslog(3) for a level of `logging`."""
    return next((priority for lowest, priority in _PRIORITIES if level >= lowest), 7)


def _stderr_is_journal() -> bool:
    """Whether standard error is the journal's stream (systemd.exec(5), JOURNAL_STREAM); a redirected one is not."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


def _log_uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error or kind(), trace)
    elif not issubclass(kind, SystemExit):
        logging.getLogger("corewatch").critical("uncaught exception", exc_info=(kind, error or kind(), trace))


def _program(name: str) -> Any:
    def add(_logger: Any, _method: str, event: Any) -> Any:
        event.setdefault("program", name)
        return event

    return add
