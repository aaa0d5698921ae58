"""Live changes for open pages: one reader of the ledger for all of them, and a stream of Server-Sent Events for each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from ledger.change_feed import CaseChange, FeedPosition
from ledger.store import Ledger

log = structlog.get_logger()

POLL_S: Final = 0.4
"""How often the ledger is read while a page is open."""

KEEP_ALIVE_S: Final = 10.0
CHECK_S: Final = 60.0
"""How often a stream asks whether its session is still valid."""

_WAITING: Final = 500
"""Changes that a stream may lag behind; then the page has to load again."""

RELOAD: Final = "event: reload\ndata: {}\n\n"
ALIVE: Final = "event: alive\ndata: {}\n\n"


class LiveFeed:
    """Reads the ledger while somebody listens, and hands each change to every listener. Used in one event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._listeners: set[asyncio.Queue[CaseChange | None]] = set()
        self._position: FeedPosition | None = None
        self._reader: asyncio.Task[None] | None = None

    async def stream(self, after: int | None, is_valid: Callable[[], bool]) -> AsyncIterator[str]:
        """Text of a stream: the changes after a cursor, then those that follow, and a sign of life every ten seconds.

        Parameters
        ----------
        after
            Cursor of the last event that the client has; None: only what follows.
        is_valid
            Whether the session still is; asked in a thread. The stream ends when it is not.
        """
        queue: asyncio.Queue[CaseChange | None] = asyncio.Queue(_WAITING)
        position = await self._join(queue)
        try:
            yield "retry: 2000\n" + ALIVE
            if after is not None:
                missed = await run_in_threadpool(self._ledger.changes.since, after)
                if missed is None:
                    yield f"id: {position.floor}\n" + RELOAD
                for change in missed or ():
                    yield _event(CaseChange(min(change.cursor, position.floor), change.case_id, change.event))
            checked = asyncio.get_running_loop().time()
            while True:
                try:
                    following = await asyncio.wait_for(queue.get(), KEEP_ALIVE_S)
                except TimeoutError:
                    yield ALIVE
                else:
                    if following is None:
                        yield RELOAD
                        return
                    yield _event(following)
                if asyncio.get_running_loop().time() - checked >= CHECK_S:
                    checked = asyncio.get_running_loop().time()
                    if not await run_in_threadpool(is_valid):
                        return
        finally:
            self._listeners.discard(queue)

    async def _join(self, queue: asyncio.Queue[CaseChange | None]) -> FeedPosition:
        if self._position is None or self._reader is None or self._reader.done():
            self._position = FeedPosition(await run_in_threadpool(self._ledger.changes.newest))
        self._listeners.add(queue)
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read(self._position))
        return self._position

    async def _read(self, position: FeedPosition) -> None:
        """Read until nobody listens. While the ledger cannot be read, streams stay silent, and pages say that they are not live."""
        failed = False
        while self._listeners:
            try:
                changes = await run_in_threadpool(self._ledger.changes.following, position)
            except SQLAlchemyError as error:
                if not failed:
                    log.warning("live_feed_interrupted", error=type(error).__name__)
                failed = True
                changes = []
            else:
                failed = False
            for queue in tuple(self._listeners):
                self._hand_over(queue, changes)
            await asyncio.sleep(POLL_S)

    def _hand_over(self, queue: asyncio.Queue[CaseChange | None], changes: list[CaseChange]) -> None:
        if queue.qsize() + len(changes) < _WAITING:
            for change in changes:
                queue.put_nowait(change)
            return
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)
        self._listeners.discard(queue)


def _event(change: CaseChange) -> str:
    data = json.dumps({"case": change.case_id, "event": change.event})
    return f"id: {change.cursor}\nevent: change\ndata: {data}\n\n"
