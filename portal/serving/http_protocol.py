"""HTTP/1.1 connections with deadlines for headers and bodies, and a bounded number of them (uvicorn's h11 protocol).

uvicorn closes an idle connection only after its first response, and knows no deadline for a request: a client that sends nothing,
or one byte a minute, holds a connection for ever.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol

from foundation.throttle import LogThrottle
from portal.serving.connection import CONNECTION
from portal.serving.connection_table import ConnectionTable, Phase

log = structlog.get_logger()

_App = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds and rates after which a connection is closed.

    Attributes
    ----------
    header_s
        From the connection, or the end of the previous response, to the whole header of the next request.
    body_idle_s
        Without a byte of the body, while the portal wants to read.
    body_bytes_per_s
        Mean rate of a body after its first `body_idle_s`.
    write_s
        Without the client reading, while there is something to send.
    """

    header_s: float = 10.0
    body_idle_s: float = 30.0
    body_bytes_per_s: float = 1000.0
    write_s: float = 60.0


def protocol_class(table: ConnectionTable, deadlines: Deadlines) -> type[H11Protocol]:
    """A class for `uvicorn.Config(http=...)`, whose connections share a table."""

    class BoundConnection(GuardedConnection):
        """A connection in this table."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.use(table, deadlines)

    return BoundConnection


class GuardedConnection(H11Protocol):
    """One connection. Every deadline ends it; nothing that a client sends moves the deadline of a header."""

    _table: ConnectionTable
    _deadlines: Deadlines
    _refused = LogThrottle()

    def use(self, table: ConnectionTable, deadlines: Deadlines) -> None:
        """Set what its server shares; wraps the application, so that it can mark the connection as valid."""
        self._table, self._deadlines = table, deadlines
        self._phase: Phase | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._body_bytes, self._body_s, self._idle_s = 0, 0.0, 0.0
        app: Any = self.app

        async def with_mark(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
            scope[CONNECTION] = self._mark_valid
            await app(scope, receive, send)

        self.app = with_mark

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the deadline of the first header, and close another connection if there are too many."""
        super().connection_made(transport)
        _drop_dead_peers(transport)
        address = self.client[0] if self.client else ""
        surplus = self._table.opened(self, address)
        self._enter(Phase.WAITING)
        if isinstance(surplus, GuardedConnection):
            if (held_back := self._refused.held_back(self.loop.time(), address)) is not None:
                log.warning("connections_limited", address=address, held_back=held_back)
            surplus.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """End every deadline."""
        self._table.closed(self)
        for timer in (self._deadline, self._writing):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Note the progress of a body; the deadline of a header stays."""
        self._body_bytes += len(data)
        self._idle_s = 0.0
        super().data_received(data)
        self._follow()

    def on_response_complete(self) -> None:
        """Start the deadline of the next header."""
        self._phase = None
        super().on_response_complete()
        self._follow()

    def pause_writing(self) -> None:
        """The client does not read what was sent: start the deadline."""
        super().pause_writing()
        if self._writing is None:
            self._writing = self.loop.call_later(self._deadlines.write_s, self._expire)

    def resume_writing(self) -> None:
        """The client reads."""
        super().resume_writing()
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def _follow(self) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            self._enter(Phase.WAITING)
        else:
            self._enter(Phase.RECEIVING if self.cycle.more_body else Phase.ANSWERING)

    def _enter(self, phase: Phase) -> None:
        if phase is self._phase:
            return
        self._phase = phase
        self._table.set_phase(self, phase)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if phase is Phase.WAITING:
            self._deadline = self.loop.call_later(self._deadlines.header_s, self._expire)
        elif phase is Phase.RECEIVING:
            self._body_bytes, self._body_s, self._idle_s = 0, 0.0, 0.0
            self._deadline = self.loop.call_later(self._tick_s, self._check_body)

    @property
    def _tick_s(self) -> float:
        return self._deadlines.body_idle_s / 10

    def _check_body(self) -> None:
        """Called regularly while a body is received. Time in which the portal itself does not read is not the client's."""
        self._deadline = self.loop.call_later(self._tick_s, self._check_body)
        if self.flow.read_paused:
            self._idle_s = 0.0
            return
        self._body_s += self._tick_s
        self._idle_s += self._tick_s
        late_s = self._body_s - self._deadlines.body_idle_s
        if self._idle_s >= self._deadlines.body_idle_s or late_s * self._deadlines.body_bytes_per_s > self._body_bytes:
            self._expire()

    def _expire(self) -> None:
        self.transport.abort()

    def _mark_valid(self) -> None:
        """Called by the application, in any thread."""
        self.loop.call_soon_threadsafe(self._table.mark_valid, self)


def _drop_dead_peers(transport: asyncio.Transport) -> None:
    """Have the system close connections whose peer is gone, such as a phone that left the network, within two minutes."""
    held = transport.get_extra_info("socket")
    if held is None:
        return
    held.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 20), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 120_000)):
        if hasattr(socket, name):
            held.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
