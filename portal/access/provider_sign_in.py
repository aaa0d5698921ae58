"""Sign-in pages that lead to the identity provider and back."""

from __future__ import annotations

import secrets
from dataclasses import asdict
from typing import Final

import structlog
from anyio import CapacityLimiter, to_thread
from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute

from foundation.outages import OutageTracker
from portal.access.cookies import SIGN_IN
from portal.access.identity_provider import Attempt, IdentityProvider, ProviderUnavailable, SignInRefused
from portal.access.origin import safe_target
from portal.access.principal import SignIn
from portal.access.sign_in import signed_in
from portal.routing import open_route
from portal.site import Site

log = structlog.get_logger()

CALLBACK: Final = "/login/oidc/callback"
ATTEMPT_S: Final = 600
"""How long somebody may take at the provider."""

_AT_ONCE: Final = 4
"""Threads that may wait for the provider, so that one that hangs takes none from the pages."""
_LONGEST_CODE: Final = 4000


class ProviderSignIn:
    """The pages. What binds an answer to its browser is in a signed cookie, so that any process of the portal can take it."""

    def __init__(self, site: Site) -> None:
        if site.portal.oidc is None:
            raise ValueError("the settings have no portal.oidc")
        self._site, self._issuer = site, site.portal.oidc.issuer
        self._provider = IdentityProvider(site.portal.oidc, f"{site.portal.url or ''}{CALLBACK}")
        self._signer = URLSafeTimedSerializer(site.portal.link_key(site.settings.data_dir), salt="corewatch sign-in")
        self._outage = OutageTracker()
        self._threads: CapacityLimiter | None = None

    def routes(self) -> list[BaseRoute]:
        """Both routes; they are open."""
        return [open_route("/login/oidc", self._start), open_route(CALLBACK, self._finish)]

    async def _start(self, request: Request) -> Response:
        return await to_thread.run_sync(self._to_provider, request, limiter=self._limiter())

    async def _finish(self, request: Request) -> Response:
        return await to_thread.run_sync(self._from_provider, request, limiter=self._limiter())

    def _limiter(self) -> CapacityLimiter:
        self._threads = self._threads or CapacityLimiter(_AT_ONCE)  # needs a running event loop
        return self._threads

    def _to_provider(self, request: Request) -> Response:
        refusal = self._site.access.misdirected(request)
        if refusal is not None or self._site.access.is_closed():
            return refusal or self._site.access.refusal(404, "There is no such page.", api=False)
        attempt = Attempt(secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(48))
        try:
            address = self._provider.address(attempt)
        except ProviderUnavailable as error:
            return self._unavailable(error)
        answer = RedirectResponse(address, 303)
        held = {**asdict(attempt), "target": safe_target(request.query_params.get("next", "/"))}
        self._site.access.cookies.write(answer, SIGN_IN, str(self._signer.dumps(held)), ATTEMPT_S)
        return answer

    def _from_provider(self, request: Request) -> Response:
        access = self._site.access
        refusal = access.misdirected(request)
        if refusal is not None:
            return refusal
        try:
            held = self._signer.loads(access.cookies.read(request, SIGN_IN) or "", max_age=ATTEMPT_S)
            target = str(held.pop("target"))
            attempt = Attempt(**held)
        except (BadData, TypeError, KeyError, AttributeError):
            return self._refused(request, "this sign-in was not begun in this browser, or took too long", 400)
        query = request.query_params
        if not secrets.compare_digest(query.get("state", "").encode(), attempt.state.encode()):
            return self._refused(request, "this sign-in was not begun in this browser", 400)
        if query.get("iss", self._issuer) != self._issuer:  # RFC 9207
            return self._refused(request, "the answer is of another provider", 400)
        code = query.get("code", "")
        if not 0 < len(code) <= _LONGEST_CODE:
            return self._refused(request, "the provider refused the sign-in", 403)
        try:
            principal = self._provider.principal(code, attempt)
        except ProviderUnavailable as error:
            return self._unavailable(error)
        except SignInRefused as error:
            return self._refused(request, error.problem, 403)
        if self._outage.recovered("provider"):
            log.info("identity_provider_answers")
        answer = signed_in(self._site, request, principal, target)
        access.cookies.remove(answer, SIGN_IN)
        return answer

    def _refused(self, request: Request, why: str, status: int) -> Response:
        self._site.access.note_refusal(request, SignIn.OIDC, why)
        answer = self._site.access.refusal(status, f"{why[0].upper()}{why[1:]}. Sign in again, or ask an administrator.", api=False)
        self._site.access.cookies.remove(answer, SIGN_IN)
        return answer

    def _unavailable(self, error: ProviderUnavailable) -> Response:
        if self._outage.failed("provider"):
            log.error("identity_provider_unavailable", problem=error.problem, remedy=error.remedy)
        text = "The hospital's sign-in does not answer. Try again later. Links in mails still work."
        return self._site.access.refusal(502, text, api=False)
