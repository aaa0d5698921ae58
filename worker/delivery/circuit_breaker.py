"""Servers that do not answer: what hangs must not hold the processes that everything else is delivered by.

An attempt at a server that is switched off behind a firewall, or that has accepted the connection and says no more, lasts as long
as its timeout. After one such attempt the server is a suspect: for a while nobody tries it, then one delivery does, and so on until
one comes through. Of several suspects only so many are tried at once that one process at least stays free; mail need not wait for
that, since it tells people. The workers of one host know of each other through a file; it holds nothing that would be missed.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from corewatch.errors import NoAnswer, RetryLater
from outputs.destinations.base import Destination
from outputs.destinations.email import MailDestination
from worker.context import WorkerContext

log = structlog.get_logger()

SLOW_S: Final = 2.0
"""An attempt that fails sooner holds nobody up."""

SHORTEST_PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 60.0
"""A suspect is left alone for as long as it has been one, between these."""

TRIAL_S: Final = 120.0
"""So long a trial is waited for at most: its worker may have been killed."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A server that did not answer: since when, until when it is left alone (seconds since 1970), whether it is being tried."""

    since: float
    until: float
    trying: bool = False

    def holds(self, now: float) -> bool:
        """Whether to leave it alone; a clock that was set back must not make that longer."""
        return now < self.until <= now + TRIAL_S


@contextmanager
def asking(context: WorkerContext, destination: Destination) -> Iterator[None]:
    """One attempt at a destination. Where its server does not answer, and that took long, the next ones leave it alone for a while.

    Raises
    ------
    RetryLater
        The attempt is not to be made now.
    """
    server, clock = destination.server, context.ledger.clock
    if server is None:
        yield
        return
    suspects = Suspects(context.settings.data_dir, context.settings.work.deliver_processes)
    suspects.begin(server, clock(), first=isinstance(destination, MailDestination))
    began, hung = time.monotonic(), False
    try:
        yield
    except NoAnswer:
        hung = time.monotonic() - began >= SLOW_S
        raise
    finally:
        suspects.end(server, clock(), hung=hung)


class Suspects:
    """What the processes of this host know.

    Parameters
    ----------
    folder
        The data folder.
    processes
        Of the worker that delivers.
    """

    def __init__(self, folder: Path, processes: int) -> None:
        self._file = folder / "servers-away.json"
        self._most_trials = max(1, processes - 1)

    def begin(self, name: str, now: datetime, *, first: bool = False) -> None:
        """Before an attempt.

        Parameters
        ----------
        first
            It comes first, however many others are being tried.

        Raises
        ------
        RetryLater
            It is not to be made now.
        """
        if not self._file.exists():
            return
        moment = now.timestamp()
        with self._state() as state:
            suspect = state.get(name)
            if suspect is None:
                return
            trials = sum(other.trying and other.holds(moment) for key, other in state.items() if key != name)
            if suspect.holds(moment) or (trials >= self._most_trials and not first):
                raise RetryLater(
                    f"{name} did not answer other deliveries, so this one was not tried", "look at its log and the network"
                )
            state[name] = replace(suspect, until=moment + TRIAL_S, trying=True)

    def end(self, name: str, now: datetime, *, hung: bool) -> None:
        """After an attempt; `hung`: it got no answer, and took long to see that."""
        if not hung and not self._file.exists():
            return
        moment = now.timestamp()
        with self._state() as state:
            before = state.pop(name, None)
            if hung:
                since = moment if before is None else min(before.since, moment)
                pause = min(max(SHORTEST_PAUSE_S, moment - since), LONGEST_PAUSE_S)
                state[name] = Suspect(since, moment + pause)

    @contextmanager
    def _state(self) -> Iterator[dict[str, Suspect]]:
        """The file's content, to be changed; where the disk does not let us, everything is tried as if there were no suspects."""
        try:
            file = self._file.open("a+b", buffering=0)
        except OSError as error:
            log.warning("servers that do not answer cannot be written down", why=error.strerror)
            yield {}
            return
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            text = file.read()
            state = _read(text)
            try:
                yield state
            finally:
                new = json.dumps({name: asdict(one) for name, one in state.items()}).encode()
                if new != text:
                    with suppress(OSError):  # a full disk: what is torn counts as empty
                        file.truncate(0)
                        file.write(new)


def _read(text: bytes) -> dict[str, Suspect]:
    try:
        return {name: Suspect(**one) for name, one in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError):
        return {}  # new, or torn
