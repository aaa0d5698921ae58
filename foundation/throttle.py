"""Rate limits: a token bucket per peer, and a throttle for log lines. Pure: the clock is passed in."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, TypeVar

MAX_KEYS: Final = 1024
"""Peers, or lines, that are remembered; the one that was quiet for longest is forgotten first."""

Value = TypeVar("Value")


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_s: float


class TokenBucket:
    """A token bucket per peer.

    Parameters
    ----------
    per_s
        Tokens that a bucket gains each second.
    burst
        Tokens that a bucket holds at most, and that a new peer has; None for those of one second.
    max_peers
        Buckets that are remembered.

    >>> bucket = TokenBucket(per_s=1.0, burst=2)
    >>> [bucket.take("10.0.0.1", 0.0) for _ in range(3)]
    [True, True, False]
    >>> bucket.reserve("10.0.0.2", 0.0), bucket.reserve("10.0.0.2", 0.0), bucket.reserve("10.0.0.2", 0.0)
    (0.0, 0.0, 1.0)
    """

    def __init__(self, per_s: float, burst: float | None = None, max_peers: int = MAX_KEYS) -> None:
        self._per_s, self._max_peers = per_s, max_peers
        self._burst = per_s if burst is None else float(burst)
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, peer: str, now_s: float) -> bool:
        """Take a token if there is one; whether there was. For requests that are refused otherwise."""
        bucket = self._filled(peer, now_s)
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    def reserve(self, peer: str, now_s: float) -> float:
        """Take a token, in advance if necessary; returns the seconds to wait for it. For peers that are slowed, not refused."""
        bucket = self._filled(peer, now_s)
        bucket.tokens -= 1
        return max(0.0, -bucket.tokens / self._per_s)

    def _filled(self, peer: str, now_s: float) -> _Bucket:
        bucket = _touch(self._buckets, peer, _Bucket(self._burst, now_s), self._max_peers)
        bucket.tokens = min(self._burst, bucket.tokens + max(0.0, now_s - bucket.at_s) * self._per_s)
        bucket.at_s = now_s
        return bucket


@dataclass(slots=True)
class _Line:
    logged_at_s: float
    held_back: int = 0


class LogThrottle:
    """Log each kind of line once per interval, with the number of lines held back since.

    A scanner that tries every port and AE title must not fill the disk with log lines.

    Parameters
    ----------
    interval_s
        Between two lines of the same kind.
    most
        Lines of all kinds together in one interval.
    """

    def __init__(self, interval_s: float = 60.0, most: int = 30) -> None:
        self._interval_s = interval_s
        self._most = most
        self._lines: OrderedDict[tuple[str, ...], _Line] = OrderedDict()
        self._window_from_s = float("-inf")
        self._in_window = 0

    def held_back(self, now_s: float, *kind: str) -> int | None:
        """How many lines of this kind were held back since the last one, if this one is to be logged; None if it is not."""
        if now_s - self._window_from_s >= self._interval_s:
            self._window_from_s, self._in_window = now_s, 0
        line = _touch(self._lines, kind, _Line(float("-inf")), MAX_KEYS)
        if now_s - line.logged_at_s < self._interval_s or self._in_window >= self._most:
            line.held_back += 1
            return None
        self._in_window += 1
        held_back, line.held_back, line.logged_at_s = line.held_back, 0, now_s
        return held_back


Key = TypeVar("Key", bound=Hashable)


def _touch(known: OrderedDict[Key, Value], key: Key, new: Value, most: int) -> Value:
    """The value of a key, or a new one; forgets the least recently used key beyond `most`."""
    value = known.setdefault(key, new)
    known.move_to_end(key)
    if len(known) > most:
        known.popitem(last=False)
    return value
