"""Responses of the portal, and the headers that confine what a page may do in a browser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.datastructures import MutableHeaders
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY: Final[Mapping[str, str]] = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "font-src": "'self'",
    "connect-src": "'self'",
    "manifest-src": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
}

_HEADERS: Final = {
    "cache-control": "no-store",
    "referrer-policy": "same-origin",  # with no-referrer, browsers send `Origin: null` with a form
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "x-robots-tag": "noindex, nofollow",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


def content_security_policy(**changes: str) -> str:
    """The policy of every page, with changes for one, such as `img_src="'self' data:"`.

    >>> content_security_policy(img_src="'self' data:").split("; ")[3]
    "img-src 'self' data:"
    """
    policy = dict(_POLICY) | {name.replace("_", "-"): value for name, value in changes.items()}
    return "; ".join(f"{name} {value}" for name, value in policy.items())


def html(body: str, status: int = 200, *, policy: str | None = None, headers: Mapping[str, str] | None = None) -> HTMLResponse:
    """A page. Its other security headers are added to every response; `policy` is for a page that needs another one."""
    own = {} if policy is None else {"content-security-policy": policy}
    return HTMLResponse(body, status, headers={**own, **(headers or {})})


def problem(status: int, title: str, detail: str = "", **more: Any) -> JSONResponse:
    """An error of an address for programs (RFC 9457)."""
    body = {"title": title, "status": status, **({"detail": detail} if detail else {}), **more}
    return JSONResponse(body, status, media_type="application/problem+json")


def retry_later(response: Response, seconds: int) -> Response:
    """Add when to try again."""
    response.headers["retry-after"] = str(seconds)
    return response


class SecurityHeaders:
    """Adds the security headers to every response that does not set them itself, and HSTS where people use https.

    Parameters
    ----------
    secure
        Whether `portal.url` is https.
    """

    def __init__(self, app: ASGIApp, *, secure: bool) -> None:
        self._app = app
        self._headers = {**_HEADERS, "content-security-policy": content_security_policy()}
        if secure:
            self._headers["strict-transport-security"] = "max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)
