"""Budget of live streams (Server-Sent Events): how many may be open, of one person and together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class TooManyStreams(Exception):
    """No stream is left; the client retries later and refreshes its page by itself meanwhile."""


class StreamBudget:
    """Counts open streams. Used from the event loop only.

    Parameters
    ----------
    most
        Open streams of everybody.
    most_of_one
        Open streams of one login; null: half of them all, so that one login cannot take the last stream from the others.
    """

    def __init__(self, most: int, most_of_one: int | None = None) -> None:
        self._most = most
        self._most_of_one = max(1, most // 2) if most_of_one is None else most_of_one
        self._open: Counter[str] = Counter()

    @property
    def open(self) -> int:
        """Number of open streams."""
        return self._open.total()

    @contextmanager
    def stream(self, login: str) -> Iterator[None]:
        """Hold one stream while the block runs.

        Raises
        ------
        TooManyStreams
            None is left.
        """
        if self.open >= self._most or self._open[login] >= self._most_of_one:
            raise TooManyStreams
        self._open[login] += 1
        try:
            yield
        finally:
            self._open[login] -= 1
            if not self._open[login]:
                del self._open[login]
