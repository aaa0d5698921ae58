"""Circuit breaker per server: a server that does not answer must not occupy every process of the worker.

An attempt at a server that is switched off behind a firewall, or that accepts the connection and then stays silent, lasts as long
as its timeout. After one such attempt the circuit of the server is open: no delivery is attempted for a while. Then it is half
open: one delivery is attempted, and its outcome closes or reopens the circuit. Of the worker's processes all but one may make
half-open attempts at once, so that one stays free; mail has no such limit, since it alerts people. The processes of one host
share the state in a file of the data folder. Nothing else depends on that file.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from corewatch.errors import NoAnswer, RetryLater, SlowAnswer
from foundation.backoff import Backoff, is_waiting
from foundation.lock import locked
from outputs.destinations import Destination
from worker.context import WorkerContext

log = structlog.get_logger()

SLOW_S: Final = 2.0
"""An attempt without an answer opens the circuit only if it took this long: one that fails sooner occupies no process."""

BACKOFF: Final = Backoff(5.0, 60.0)
"""The circuit stays open as long again as the server has not answered, within these bounds."""

HALF_OPEN_LIMIT_S: Final = 120.0
"""A half-open attempt is waited for at most this long: its worker may have been killed."""


@dataclass(frozen=True, slots=True)
class Circuit:
    """State of a server that did not answer. Times in seconds since 1970.

    Attributes
    ----------
    since
        When it was first found not to answer.
    until
        Until when no other attempt is made.
    trying
        Half open: one attempt is being made.
    """

    since: float
    until: float
    trying: bool = False

    def is_open(self, now: float) -> bool:
        """Whether no attempt may be made now; a clock that was set back does not prolong that."""
        return is_waiting(self.until, now, HALF_OPEN_LIMIT_S)


@contextmanager
def guarded_attempt(context: WorkerContext, destination: Destination) -> Iterator[None]:
    """Make one attempt at a destination; opens the circuit of its server where that does not answer in `SLOW_S`.

    Raises
    ------
    RetryLater
        The circuit is open: no attempt is made.
    """
    server, clock = destination.server, context.ledger.clock
    if server is None:
        yield
        return
    breaker = CircuitBreaker(context.settings.data_dir, context.settings.work.deliver_processes)
    breaker.before_attempt(server, clock(), unlimited=destination.must_not_wait)
    began, hung, slow = time.monotonic(), False, False
    try:
        yield
    except NoAnswer:
        hung = time.monotonic() - began >= SLOW_S
        raise
    except SlowAnswer:
        hung = slow = True
        raise
    finally:
        breaker.after_attempt(server, clock(), hung=hung, answers=slow)


@contextmanager
def delivery_slot(context: WorkerContext, destination: Destination | None) -> Iterator[bool]:
    """Hold one of the places for deliveries that wait for a server: one fewer than processes, so that one stays free for alerts.

    Yields
    ------
    Whether there is a place. A destination without a server, one that alerts people, and a worker of one process need none.
    """
    places = context.settings.work.deliver_processes - 1
    if destination is None or destination.server is None or destination.must_not_wait or places < 1:
        yield True
        return
    with ExitStack() as stack:
        yield any(_is_taken(stack, context.settings.data_dir / f"delivery-slot-{number}") for number in range(places))


def _is_taken(stack: ExitStack, path: Path) -> bool:
    """Take a place for the stack's time; False where another process has it. It is free as soon as its process ends."""
    try:
        path.touch()
        stack.enter_context(locked(path, wait=False))
    except BlockingIOError:
        return False
    except OSError as error:  # a full disk: better without a limit than without a delivery
        log.warning("delivery_slot_unusable", file=str(path), why=error.strerror)
    return True


class CircuitBreaker:
    """The circuits of all servers, shared by the processes of one host.

    Parameters
    ----------
    folder
        The data folder.
    processes
        Number of processes that deliver.
    """

    def __init__(self, folder: Path, processes: int) -> None:
        self._file = folder / "servers-away.json"
        self._max_half_open = max(1, processes - 1)

    def before_attempt(self, server: str, now: datetime, *, unlimited: bool = False) -> None:
        """Claim an attempt.

        Parameters
        ----------
        unlimited
            The number of half-open attempts at other servers does not matter.

        Raises
        ------
        RetryLater
            The circuit is open, or too many half-open attempts are being made.
        """
        if not self._file.exists():
            return
        moment = now.timestamp()
        with self._circuits() as circuits:
            circuit = circuits.get(server)
            if circuit is None:
                return
            half_open = sum(other.trying and other.is_open(moment) for name, other in circuits.items() if name != server)
            if circuit.is_open(moment) or (half_open >= self._max_half_open and not unlimited):
                raise RetryLater(
                    f"{server} did not answer other deliveries, so this one was not tried", "look at its log and the network"
                )
            circuits[server] = replace(circuit, until=moment + HALF_OPEN_LIMIT_S, trying=True)

    def after_attempt(self, server: str, now: datetime, *, hung: bool, answers: bool = False) -> None:
        """Record an attempt; `hung`: there was no answer, and it took at least `SLOW_S` to see that.

        `answers`: it answered, but too slowly, so that the pauses do not grow.
        """
        if not hung and not self._file.exists():
            return
        moment = now.timestamp()
        with self._circuits() as circuits:
            before = circuits.pop(server, None)
            if hung:
                since = moment if before is None or answers else min(before.since, moment)
                circuits[server] = Circuit(since, moment + BACKOFF.delay_after_s(moment - since))

    def close_all(self) -> None:
        """Close every circuit: an operator wants the servers tried now."""
        if self._file.exists():
            with self._circuits() as circuits:
                circuits.clear()

    @contextmanager
    def _circuits(self) -> Iterator[dict[str, Circuit]]:
        """The content of the file, to be changed. Where the file cannot be opened, every circuit counts as closed."""
        try:
            file = self._file.open("a+b", buffering=0)
        except OSError as error:
            log.warning("circuit_breaker_file_unusable", file=str(self._file), why=error.strerror)
            yield {}
            return
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            text = file.read()
            circuits = _read(text)
            try:
                yield circuits
            finally:
                new = json.dumps({name: asdict(one) for name, one in circuits.items()}).encode()
                if new != text:
                    with suppress(OSError):  # a full disk: a torn file counts as empty
                        file.truncate(0)
                        file.write(new)


def _read(text: bytes) -> dict[str, Circuit]:
    try:
        return {name: Circuit(**one) for name, one in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError):
        return {}  # a new or torn file
