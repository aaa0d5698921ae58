"""Which connection to close when one address, or everybody together, holds too many. Pure.

Connections that have carried a valid request are readers' and never count against their address: behind one address may be a
whole hospital. Of the others the oldest that has not sent a whole request makes room: a flood of idle connections silences nobody.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final


class Phase(Enum):
    """What a connection is doing."""

    WAITING = auto()
    """For a request, or the rest of its header."""
    RECEIVING = auto()
    """The body of a request."""
    ANSWERING = auto()


@dataclass(slots=True)
class Entry:
    """One open connection."""

    address: str
    counted: bool
    """Whether it counts against its address; those of proxies do not."""
    phase: Phase = Phase.WAITING
    valid: bool = False


_CLOSABLE: Final = (Phase.WAITING, Phase.RECEIVING)


class ConnectionTable:
    """Open connections, oldest first.

    Parameters
    ----------
    most
        Connections of everybody together.
    most_per_address
        Connections of one address that have not carried a valid request.
    is_exempt
        Whether an address is that of a trusted proxy, which passes on everybody's requests.
    """

    def __init__(self, most: int, most_per_address: int, is_exempt: Callable[[str], bool]) -> None:
        self._most, self._most_per_address, self._is_exempt = most, most_per_address, is_exempt
        self._open: OrderedDict[Hashable, Entry] = OrderedDict()
        self._of: defaultdict[str, OrderedDict[Hashable, Entry]] = defaultdict(OrderedDict)

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, connection: Hashable, address: str) -> Hashable | None:
        """Enter a new connection; returns the one to close for it, which may be itself, and which no longer counts."""
        surplus = self._surplus(connection, address)
        if surplus is not None:  # its end is known later, and more connections may come before
            self.closed(surplus)
        return surplus

    def _surplus(self, connection: Hashable, address: str) -> Hashable | None:
        entry = Entry(address, counted=not self._is_exempt(address))
        self._open[connection] = entry
        if entry.counted:
            same = self._of[address]
            same[connection] = entry
            if len(same) > self._most_per_address:
                return _oldest(same.items(), _CLOSABLE, connection)
        if len(self._open) > self._most:
            unproven = [(one, held) for one, held in self._open.items() if not held.valid]
            return _oldest(unproven, _CLOSABLE, None) or _oldest(self._open.items(), (Phase.WAITING,), connection)
        return None

    def set_phase(self, connection: Hashable, phase: Phase) -> None:
        """Note what a connection is doing."""
        entry = self._open.get(connection)
        if entry is not None:
            entry.phase = phase

    def mark_valid(self, connection: Hashable) -> None:
        """A connection has carried a valid request."""
        entry = self._open.get(connection)
        if entry is not None and not entry.valid:
            entry.valid = True
            self._forget(connection, entry)

    def closed(self, connection: Hashable) -> None:
        """Remove a connection."""
        entry = self._open.pop(connection, None)
        if entry is not None:
            self._forget(connection, entry)

    def _forget(self, connection: Hashable, entry: Entry) -> None:
        same = self._of.get(entry.address)
        if same is not None:
            same.pop(connection, None)
            if not same:
                del self._of[entry.address]


def _oldest(entries: Iterable[tuple[Hashable, Entry]], phases: Iterable[Phase], otherwise: Hashable | None) -> Hashable | None:
    return next((one for one, entry in entries if entry.phase in phases), otherwise)
