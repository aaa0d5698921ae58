"""Tells what is going on: with a spinner in a terminal, in plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

_WIDTH = 66
"""Column in which the seconds stand."""


class Teller:
    """Prints one line per finished step, with the seconds that it took."""

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

    def say(self, what: str) -> None:
        """Print a line that is no step."""
        self.console.print(f"      {what}", style="dim", soft_wrap=True)

    def stopped(self, why: str) -> None:
        """Print that it goes no further."""
        self.console.print(Text("  --  ", style="bold red") + Text(why), soft_wrap=True)
