"""Live events: `GET /api/v1/events` (Server-Sent Events), free of patient data."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack
from functools import partial

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from corewatch.roles import Role
from portal.access.principal import Principal
from portal.live import LiveFeed
from portal.responses import problem, retry_later
from portal.routing import api
from portal.serving.streams import TooManyStreams
from portal.site import Site


class _EventStream(StreamingResponse):
    """A stream that gives its place in the budget back however it ends, also before its first byte."""

    def __init__(self, content: AsyncIterator[str], held: ExitStack) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(content, media_type="text/event-stream", headers=headers)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        with self._held:
            await super().__call__(scope, receive, send)


def routes(site: Site) -> list[BaseRoute]:
    """The route."""
    feed = LiveFeed(site.ledger)

    async def events(request: Request, principal: Principal) -> Response:
        try:
            after = _cursor(request)
        except ValueError:
            return problem(400, "Last-Event-ID must be the id of an event of this stream.")
        held = ExitStack()
        try:
            held.enter_context(site.streams.stream(principal.login))
        except TooManyStreams:
            return retry_later(problem(503, "Too many live pages are open.", "The page refreshes by itself meanwhile."), 30)
        return _EventStream(feed.stream(after, partial(site.access.still_valid, request, principal)), held)

    return [api(site, "/api/v1/events", events, roles={Role.VIEWER}, background=True)]


def _cursor(request: Request) -> int | None:
    """The last event that the client has: the header `Last-Event-ID`, else the parameter `after`."""
    text = request.headers.get("last-event-id") or request.query_params.get("after")
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal()) or len(text) > 18:
        raise ValueError("no cursor")
    return int(text)
