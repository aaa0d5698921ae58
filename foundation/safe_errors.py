"""Errors as text without patient data: what goes into the ledger, the log and reports."""

from __future__ import annotations

import traceback
from collections.abc import Sequence

from corewatch.errors import CorewatchError


def describe_error(error: BaseException) -> str:
    """The error in one line: the message of a `CorewatchError`, else only class and place, since the message may quote a header."""
    if isinstance(error, CorewatchError):
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1:]
    place = f" at {last[0].filename.rsplit('/', 2)[-1]}:{last[0].lineno}" if last else ""
    return f"{type(error).__name__}{place}"


def error_frames(error: BaseException) -> Sequence[str]:
    """The stack of the error, innermost frame last, without its message."""
    return [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)]
