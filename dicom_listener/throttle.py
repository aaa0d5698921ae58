"""How fast a peer may go, and how often the log may speak of it. Pure decisions: the clock is passed in."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

MOST_KEYS = 1024
"""Peers, or lines, that are remembered; beyond that the one that was quiet for longest is forgotten."""


class TokenBucket:
    """Spaces the answers to each peer, so that one that sends without end leaves room for the others.

    A peer that is held back is asked to wait, never refused: C-STORE answers come one after the other, so that a late answer slows
    the sender. After a pause it may send a second's worth at once.

    Parameters
    ----------
    per_s
        Answers a second that a peer may have.
    """

    def __init__(self, per_s: float) -> None:
        self._interval_s = 1.0 / per_s
        self._due: OrderedDict[str, float] = OrderedDict()

    def wait_s(self, peer: str, now_s: float) -> float:
        """Seconds that this answer has to wait; it counts as given."""
        due = max(self._due.pop(peer, 0.0), now_s - 1.0) + self._interval_s
        self._due[peer] = due
        if len(self._due) > MOST_KEYS:
            self._due.popitem(last=False)
        return max(0.0, due - now_s)


@dataclass(slots=True)
class _Line:
    said_at_s: float
    held_back: int = 0


class LogThrottle:
    """Lets one line of a kind through, and then one a while that tells how many were held back.

    A scanner that tries every port and AE title must not fill the disk with our log. Besides each line's own silence, no more than
    `most` lines come in one such while.
    """

    def __init__(self, silence_s: float = 60.0, most: int = 30) -> None:
        self._silence_s = silence_s
        self._most = most
        self._lines: OrderedDict[tuple[str, ...], _Line] = OrderedDict()
        self._window_from_s = float("-inf")
        self._in_window = 0

    def says(self, now_s: float, *line: str) -> int | None:
        """Whether to log this line now: how many like it were held back since the last one, or None for not now."""
        if now_s - self._window_from_s >= self._silence_s:
            self._window_from_s, self._in_window = now_s, 0
        known = self._lines.pop(line, None)
        entry = known or _Line(float("-inf"))
        self._lines[line] = entry
        if len(self._lines) > MOST_KEYS:
            self._lines.popitem(last=False)
        if now_s - entry.said_at_s < self._silence_s or self._in_window >= self._most:
            entry.held_back += 1
            return None
        self._in_window += 1
        held_back, entry.held_back, entry.said_at_s = entry.held_back, 0, now_s
        return held_back
