"""Pages behind the signed links of mails: GET shows a case, POST acknowledges its alert.

Mail scanners follow every link in a mail, so a GET changes nothing. The token in the link authorises the POST; no cookie counts
here, so no other site can make a reader's browser send one. Works without JavaScript.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute

from foundation.throttle import TokenBucket
from outputs.links import PATH, Holder
from portal.forms import FormRefused, read_form
from portal.responses import html, retry_later
from portal.routing import open_route
from portal.serving.connection import mark_valid
from portal.signed_link_pages import Pages
from portal.site import Site

log = structlog.get_logger()

LONGEST_BODY: Final = 2048
LONGEST_NAME: Final = 100


@dataclass(frozen=True, slots=True)
class _Answer:
    body: str
    status: int = 200


class SignedLinks:
    """The routes. Only links that are not valid are limited per address: behind one address may be a whole hospital."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._good_for = timedelta(days=site.portal.link_days)
        self._pages = Pages(site.settings.model.alert_ml)
        self._invalid = TokenBucket(per_s=0.5, burst=30, max_peers=10_000)

    def routes(self) -> list[BaseRoute]:
        """Both routes; the token is their authorisation."""
        path = PATH + "{token}"
        return [open_route(path, self._show), open_route(path, self._acknowledge, methods=["POST"])]

    def message(self, text: str, status: int) -> HTMLResponse:
        """Page with one sentence."""
        return self._html(_Answer(self._pages.message(text), status))

    async def _show(self, request: Request) -> Response:
        holder = self._holder(request)
        if isinstance(holder, Response):
            return holder
        return self._html(await run_in_threadpool(self._case_page, holder))

    async def _acknowledge(self, request: Request) -> Response:
        holder = self._holder(request)
        if isinstance(holder, Response):
            return holder
        try:
            form = await read_form(request, LONGEST_BODY)
        except FormRefused as refused:
            return self.message(refused.text, refused.status)
        answer = await run_in_threadpool(self._acknowledge_as, holder, form.get("name", ""))
        if answer is not None:
            return self._html(answer)
        # a redirect, so that reloading the page sends nothing again (RFC 9110, 15.4.4); the address is relative: a proxy may
        # serve us below another path
        return RedirectResponse(str(request.path_params["token"]), 303, headers=self._headers())

    def _holder(self, request: Request) -> Holder | Response:
        holder = self._site.links.read(str(request.path_params["token"]), self._good_for)
        if holder is not None:
            mark_valid(request.scope)
            return holder
        if not self._invalid.take(request.client.host if request.client else "", self._site.monotonic()):
            return retry_later(self.message("Too many requests. Please wait a minute.", 429), 60)
        return self._html(self._unknown())

    def _case_page(self, holder: Holder, problem: str = "") -> _Answer:
        ledger = self._site.ledger
        case = ledger.cases.get(holder.case_id)
        if case is None:
            return self._unknown()
        body = self._pages.case(case, ledger.alerts.get(holder.case_id), ledger.clock(), problem)
        return _Answer(body, 422 if problem else 200)

    def _acknowledge_as(self, holder: Holder, name: str) -> _Answer | None:
        """Record the acknowledgement; returns None when that is done, else the page to show."""
        name = " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())
        if not name or len(name) > LONGEST_NAME:
            return self._case_page(holder, "Please give your name." if not name else "Please give a shorter name.")
        alert = self._site.ledger.alerts.acknowledge(holder.case_id, name, holder.recipients)
        if alert is None:
            return self._case_page(holder)
        log.info("alert acknowledged", case=holder.case_id, recipients=holder.recipients)
        return None

    def _unknown(self) -> _Answer:
        return _Answer(
            self._pages.message("This link is not valid, or has expired. Please use the newest mail about the case."), 404
        )

    def _html(self, answer: _Answer) -> HTMLResponse:
        return html(answer.body, answer.status, headers=self._headers())

    def _headers(self) -> dict[str, str]:
        policy = (
            f"default-src 'none'; style-src '{self._pages.style_hash}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        )
        return {"content-security-policy": policy, "referrer-policy": "no-referrer"}  # the address holds the link's secret
