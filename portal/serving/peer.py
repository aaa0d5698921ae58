"""Addresses of a request: the TCP peer, recorded before `X-Forwarded-For` is judged, and the path below `portal.url`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

_PEER: Final = "corewatch.peer"


def tcp_peer(scope: Scope) -> str:
    """Address of the host at the other end of the TCP connection: a browser's or a proxy's."""
    return str(scope.get(_PEER, ""))


def with_peers(app: Any, proxies: Sequence[str]) -> ASGIApp:
    """The application, with the TCP peer recorded and the client that trusted proxies name in `X-Forwarded-For`."""
    return RecordPeer(ProxyHeadersMiddleware(app, list(proxies)) if proxies else app)  # type: ignore[arg-type]


class RecordPeer:
    """Outermost layer: notes the TCP peer. What follows may replace the client by the one that a trusted proxy names."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http":
            client = scope.get("client")
            scope[_PEER] = client[0] if client else ""
        await self._app(scope, receive, send)


class BasePath:
    """Serves the portal below the path of `portal.url`, whether a proxy passes this path on or removes it.

    Parameters
    ----------
    base_path
        Path without a slash at its end; empty where there is none.
    """

    def __init__(self, app: ASGIApp, base_path: str) -> None:
        self._app, self._base_path = app, base_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http" and self._base_path:
            path = str(scope["path"])
            whole = path == self._base_path or path.startswith(self._base_path + "/")
            scope = {**scope, "root_path": self._base_path, "path": path if whole else self._base_path + path}
        await self._app(scope, receive, send)
