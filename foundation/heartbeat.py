"""Heartbeat file: one program shows that it works, another one sees since when, and whether it still does.

The file's content is the time of the program's start, its modification time that of the last beat. A program that was killed,
stopped (SIGSTOP), hangs, or has not started yet does not beat. The reader compares beats only with each other, so that a clock that
is set is no outage.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from corewatch.clock import Clock, utc_now
from foundation.durable import write_durably

LISTENER_HEARTBEAT: Final = "listener.heartbeat"
"""The listener's, in the data folder."""

BEAT_S: Final = 1.0
"""Between two beats."""

STALE_AFTER_S: Final = 5.0
"""A program without a beat this long does not work."""


class Heartbeat:
    """Writes the file. A disk that cannot be written costs the beat, not the program.

    Parameters
    ----------
    clock
        Gives the time of the start, which the file's content is.
    monotonic
        Seconds of a monotonic clock.
    """

    def __init__(self, path: Path, clock: Clock = utc_now, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._started_at = clock()
        self._monotonic = monotonic
        self._beaten_s = float("-inf")
        self._written = False

    def beat(self) -> None:
        """Beat, at most once per `BEAT_S`. To be called often."""
        now_s = self._monotonic()
        if now_s - self._beaten_s < BEAT_S:
            return
        self._beaten_s = now_s
        with suppress(OSError):
            if not self._written or not self._path.exists():
                write_durably(self._path, self._started_at.isoformat().encode())
                self._written = True
            os.utime(self._path)


@dataclass(frozen=True, slots=True)
class Listening:
    """Whether another program works.

    Attributes
    ----------
    since
        From when on it has worked without a pause; None where it has left no file, so that nothing is known.
    away_s
        Seconds without a beat; 0 while it works.
    """

    since: datetime | None = None
    away_s: float = 0.0


UNKNOWN: Final = Listening()


class HeartbeatWatch:
    """Reads the file periodically. Until the first new beat the program counts as away since the first look.

    Parameters
    ----------
    monotonic
        Seconds of a monotonic clock.
    """

    def __init__(self, path: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._monotonic = monotonic
        self._seen: tuple[int, int] | None = None
        self._changed_s: float | None = None
        self._beating = False
        self._since: datetime | None = None

    def observe(self, now: datetime) -> Listening:
        """What the file says; `now` is the present moment."""
        now_s = self._monotonic()
        try:
            status = self._path.stat()
        except OSError:
            return UNKNOWN if self._seen is None else self._answer(now_s)
        seen = (status.st_ino, status.st_mtime_ns)
        if self._seen is None:
            self._changed_s = now_s
        elif seen != self._seen:
            self._beat(now, now_s, restarted=seen[0] != self._seen[0])
        self._seen = seen
        return self._answer(now_s)

    def _beat(self, now: datetime, now_s: float, *, restarted: bool) -> None:
        paused = self._changed_s is not None and now_s - self._changed_s > STALE_AFTER_S
        if not self._beating or restarted:
            self._since = min(now, self._started_at() or now)
        if self._beating and paused:
            self._since = now
        self._beating, self._changed_s = True, now_s

    def _answer(self, now_s: float) -> Listening:
        quiet_s = 0.0 if self._changed_s is None else now_s - self._changed_s
        away = not self._beating or quiet_s > STALE_AFTER_S
        return Listening(self._since, max(quiet_s, BEAT_S) if away else 0.0)

    def _started_at(self) -> datetime | None:
        try:
            return datetime.fromisoformat(self._path.read_text())
        except (OSError, ValueError, UnicodeDecodeError):
            return None
