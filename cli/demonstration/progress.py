"""Progress of one case in the terminal: follows it through the ledger, from the first image to its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from rich.console import Console
from rich.text import Text

from cli.case_tables import ending_reason
from corewatch.errors import OperatorNeeded
from corewatch.states import DELIVERY_ENDS, ENDS, CaseState
from ledger.audit_trail import AuditLine
from ledger.cases import Case
from ledger.deliveries import Delivery
from ledger.store import Ledger

_POLL_S = 0.2
_WIDTH = 66
"""Column of the seconds."""

DONE: Final[dict[CaseState, str]] = {
    CaseState.QUEUED: "Series complete, accepted, queued",
    CaseState.PREPARED: "Converted and aligned to the network's grid",
    CaseState.DETECTED: "Ischemic core estimated",
    CaseState.DELIVERING: "Pages and DICOM objects made",
    CaseState.DELIVERED: "Every destination has it",
}
DOING: Final[dict[CaseState | None, str]] = {
    None: "Waiting for the case",
    CaseState.RECEIVING: "Waiting until the series is complete",
    CaseState.QUEUED: "Converting and aligning",
    CaseState.PREPARED: "Estimating the ischemic core",
    CaseState.DETECTED: "Making pages and DICOM objects",
    CaseState.DELIVERING: "Delivering",
}


class ProgressPrinter:
    """Prints one line per finished step, with its seconds; in a terminal also a spinner for the current one."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self._clock = clock

    @contextmanager
    def step(self, doing: str, done: str) -> Iterator[None]:
        """Show `doing` while the block runs, then print `done`."""
        begun = self._clock()
        with self.doing(doing):
            yield
        self.done(done, self._clock() - begun)

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Show `what` while the block runs."""
        if self.console.is_terminal:
            with self.console.status(f"{what} ...", spinner="line"):
                yield
        else:
            yield

    def done(self, what: str, seconds: float | None = None) -> None:
        """Print a finished step."""
        line = Text("  ok  ", style="green") + Text(what if seconds is None else what.ljust(_WIDTH))
        if seconds is not None:
            line.append(f"{seconds:7.1f} s", style="bold")
        self.console.print(line, soft_wrap=True)

    def note(self, what: str) -> None:
        """Print a line that is not a step."""
        self.console.print(f"      {what}", style="dim", soft_wrap=True)

    def failed(self, reason: str) -> None:
        """Print why the demonstration cannot continue."""
        self.console.print(Text("  --  ", style="bold red") + Text(reason), soft_wrap=True)


def follow(
    database_url: str, series_uid: str, progress: ProgressPrinter, *, limit_s: float, check: Callable[[], None]
) -> tuple[Case, list[Delivery]]:
    """Print each step of the case as it is done; returns the case at its end, and its deliveries.

    Parameters
    ----------
    limit_s
        Longest wait in seconds.
    check
        Called repeatedly; raises when there is nothing to wait for any longer.

    Raises
    ------
    OperatorNeeded
        The case did not end in time.
    """
    ledger = Ledger(database_url)
    printed: set[str] = set()
    deadline = time.monotonic() + limit_s
    try:
        while time.monotonic() < deadline:
            check()
            case = next(iter(ledger.cases.find(series_uid=series_uid, limit=1)), None)
            if case is not None:
                deliveries = ledger.deliveries.of(case.case_id)
                _print_steps(case, ledger.cases.history(case.case_id), deliveries, printed, progress)
                if case.state in ENDS and not _pending(deliveries):
                    if case.state is not CaseState.DELIVERED:
                        progress.failed(f"{case.state}: {ending_reason(case)}")
                    return case, deliveries
            with progress.doing(DOING.get(None if case is None else case.state, "Delivering")):
                time.sleep(_POLL_S)
    finally:
        ledger.close()
    raise OperatorNeeded(f"the case did not end within {limit_s:g} s")


def _pending(deliveries: list[Delivery]) -> bool:
    """Whether a delivery has not ended: a case without a finding ends before its notices are sent."""
    return any(d.state not in DELIVERY_ENDS for d in deliveries)


def _print_steps(
    case: Case, history: list[AuditLine], deliveries: list[Delivery], printed: set[str], progress: ProgressPrinter
) -> None:
    before = case.last_stored_at
    for state, words in DONE.items():
        at = _reached(history, state)
        if at is None:
            return
        if state is CaseState.DELIVERED:
            for delivery in sorted((d for d in deliveries if d.sent_at), key=lambda d: d.sent_at or at):
                if delivery.destination not in printed and delivery.sent_at is not None:
                    printed.add(delivery.destination)
                    progress.done(f"  {delivery.destination}: {delivery.detail}", (delivery.sent_at - before).total_seconds())
        if state not in printed:
            printed.add(state)
            progress.done(words, max(0.0, (at - before).total_seconds()))
        before = at


def _reached(history: list[AuditLine], state: CaseState) -> datetime | None:
    return next((line.at for line in reversed(history) if line.event == f"case.{state}"), None)
