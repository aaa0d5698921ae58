"""Web application of the portal (Starlette): GET shows a case, POST acknowledges its alert.

Mail scanners follow every link in a mail, so a GET changes nothing. The token in the link authorises the POST; there are no
cookies, so no other site can make a reader's browser send one. Works without JavaScript.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from urllib.parse import parse_qs

import structlog
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from foundation.throttle import TokenBucket
from ledger.store import Ledger
from outputs.links import PATH, Holder, Links
from portal.pages import Pages

log = structlog.get_logger()

LONGEST_BODY: Final = 2048
LONGEST_NAME: Final = 100

_HEADERS: Final = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",  # the address holds the link's secret
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "x-robots-tag": "noindex, nofollow",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


@dataclass(frozen=True, slots=True)
class _Answer:
    body: str
    status: int = 200


class Portal:
    """The routes, on one ledger.

    Parameters
    ----------
    good_for
        How long a link is valid.
    alert_ml
        Threshold of the alert.
    clock_s
        Seconds of a clock that never goes back, for the limit on requests.
    """

    def __init__(
        self, ledger: Ledger, links: Links, good_for: timedelta, alert_ml: float, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._ledger, self._links, self._good_for, self._clock_s = ledger, links, good_for, clock_s
        self._pages = Pages(alert_ml)
        self._rates = TokenBucket(per_s=0.5, burst=30, max_peers=10_000)

    def application(self) -> Starlette:
        """The ASGI application."""
        route = PATH + "{token}"
        return Starlette(
            routes=[
                Route(route, self._show, methods=["GET"]),
                Route(route, self._acknowledge, methods=["POST"]),
                Route("/healthz", self._health, methods=["GET"]),
            ],
            exception_handlers={404: self._not_found, 405: self._not_found, 500: self._failed},
        )

    async def _show(self, request: Request) -> Response:
        if not self._allowed(request):
            return self._too_many()
        return self._html(await run_in_threadpool(self._page, str(request.path_params["token"])))

    async def _acknowledge(self, request: Request) -> Response:
        if not self._allowed(request):
            return self._too_many()
        token = str(request.path_params["token"])
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > LONGEST_BODY:
                return self._html(_Answer(self._pages.message("The request is too large."), 413))
        if Headers(scope=request.scope).get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
            return self._html(_Answer(self._pages.message("Please use the form of this page."), 415))
        name = parse_qs(body.decode("utf-8", "replace")).get("name", [""])[0]
        answer = await run_in_threadpool(self._acknowledge_as, token, name)
        # a redirect, so that reloading the page sends nothing again (RFC 9110, 15.4.4); the address is relative: a proxy may
        # serve us below another path
        return self._html(answer) if answer is not None else RedirectResponse(token, 303, headers=self._headers())

    async def _health(self, _request: Request) -> Response:
        return PlainTextResponse("OK", headers=self._headers())

    async def _not_found(self, _request: Request, _error: Exception) -> Response:
        return self._html(self._unknown())

    async def _failed(self, _request: Request, _error: Exception) -> Response:
        return self._html(_Answer(self._pages.message("Something went wrong. Please try again, or call the team."), 500))

    def _page(self, token: str) -> _Answer:
        holder = self._links.read(token, self._good_for)
        return self._unknown() if holder is None else self._case_page(holder)

    def _case_page(self, holder: Holder, problem: str = "") -> _Answer:
        case = self._ledger.cases.get(holder.case_id)
        if case is None:
            return self._unknown()
        body = self._pages.case(case, self._ledger.alerts.get(holder.case_id), self._ledger.clock(), problem)
        return _Answer(body, 422 if problem else 200)

    def _acknowledge_as(self, token: str, name: str) -> _Answer | None:
        """Record the acknowledgement; returns None when that is done, else the page to show."""
        holder = self._links.read(token, self._good_for)
        if holder is None:
            return self._unknown()
        name = " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())
        if not name or len(name) > LONGEST_NAME:
            return self._case_page(holder, "Please give your name." if not name else "Please give a shorter name.")
        alert = self._ledger.alerts.acknowledge(holder.case_id, name, holder.recipients)
        if alert is None:
            return self._case_page(holder)
        log.info("alert acknowledged", case=holder.case_id, recipients=holder.recipients)
        return None

    def _unknown(self) -> _Answer:
        return _Answer(
            self._pages.message("This link is not valid, or has expired. Please use the newest mail about the case."), 404
        )

    def _allowed(self, request: Request) -> bool:
        return self._rates.take(request.client.host if request.client else "", self._clock_s())

    def _too_many(self) -> Response:
        answer = self._html(_Answer(self._pages.message("Too many requests. Please wait a minute."), 429))
        answer.headers["retry-after"] = "60"
        return answer

    def _html(self, answer: _Answer) -> HTMLResponse:
        return HTMLResponse(answer.body, answer.status, headers=self._headers())

    def _headers(self) -> dict[str, str]:
        policy = (
            f"default-src 'none'; style-src '{self._pages.style_hash}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        )
        return {**_HEADERS, "content-security-policy": policy}
