"""Access control of the portal: who makes a request, and whether a route admits it. Denied by default."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection
from datetime import timedelta
from urllib.parse import quote

import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from config.portal import PortalSettings
from corewatch.roles import Role
from foundation.throttle import TokenBucket
from ledger.portal_tokens import TokenKind
from ledger.store import Ledger
from portal.access.cookies import SESSION, Cookies
from portal.access.origin import SAFE_METHODS, is_forged, is_own_host
from portal.access.principal import Principal, SignIn
from portal.access.proxy_header import is_trusted_proxy, principal_of_header
from portal.responses import html, problem
from portal.serving.connection import mark_valid
from portal.serving.peer import tcp_peer
from portal.templating import Templates

log = structlog.get_logger()

FROM_LEDGER = frozenset({SignIn.PASSWORD, SignIn.LINK})
"""Ways in whose roles are those of the user's row, at every request."""

_BEARER = "bearer "


class AccessControl:
    """Finds out who makes a request, and admits it or answers why not.

    Parameters
    ----------
    url
        `portal.url`; empty where the settings have none, and then nobody signs in.
    """

    def __init__(
        self, portal: PortalSettings, ledger: Ledger, templates: Templates, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._monotonic = monotonic
        self._refusals = TokenBucket(per_s=1 / 60, burst=20, max_peers=10_000)
        self._portal, self._ledger, self._templates = portal, ledger, templates
        self._url = portal.url or ""
        self.cookies = Cookies(secure=portal.secure)
        self.idle = timedelta(minutes=portal.session_idle_min)
        self.longest = timedelta(hours=portal.session_hours)

    def admit(
        self, request: Request, roles: Collection[Role], *, background: bool = False, api: bool = False
    ) -> Principal | Response:
        """The person or program that makes the request, or the refusal to send. Reads the ledger: call it in a thread."""
        refusal = self.misdirected(request, api=api)
        if refusal is not None:
            return refusal
        principal = self.identify(request, used=not background, api=api)
        if principal is None:
            return self._not_signed_in(request, background=background, api=api)
        mark_valid(request.scope)
        if principal.method is not SignIn.TOKEN and is_forged(request.method, request.headers, self._url):
            log.warning("forged_request_refused", method=request.method, origin=request.headers.get("origin", "")[:200])
            return self.refusal(403, "This request came from another site, and was refused.", api=api, principal=principal)
        if not principal.has(*roles):
            needed = ", ".join(sorted(roles))
            return self.refusal(403, f"Your roles do not include: {needed}. Ask an administrator.", api=api, principal=principal)
        return principal

    def identify(self, request: Request, *, used: bool = True, api: bool = False) -> Principal | None:
        """Who makes the request; None: nobody known. A bearer token counts on addresses for programs only, and then alone."""
        if not self._portal.may_sign_in:
            return None
        authorization = request.headers.get("authorization", "")
        if api and authorization.lower().startswith(_BEARER):
            return self._by_token(authorization[len(_BEARER) :].strip())
        cookie = self.cookies.read(request, SESSION)
        if cookie is not None and (found := self._by_session(cookie, used=used)) is not None:
            return found
        return self._by_proxy(request) if not api or self._header_for_api() else None

    def still_valid(self, request: Request, principal: Principal) -> bool:
        """Whether a live stream's session or token is still valid, with the same roles. Ask about once a minute, in a thread."""
        found = self.identify(request, used=False, api=request.headers.get("authorization") is not None or self._is_api(request))
        return found is not None and found.login == principal.login and found.granted == principal.granted

    def is_closed(self) -> bool:
        """Whether nobody can sign in: no user, no identity provider, no trusted proxy, or no safe address."""
        if not self._portal.may_sign_in:
            return True
        if self._portal.oidc is not None or self._portal.proxy_login is not None:
            return False
        return not self._portal.users or not self._ledger.users.any_enabled()

    def misdirected(self, request: Request, *, api: bool = False) -> Response | None:
        """The refusal of a request that is for another host: a page of another name must not speak for this one."""
        if not self._url or is_own_host(request.headers.get("host", ""), self._url):
            return None
        return self.refusal(421, "This address is not the portal's.", api=api)

    def start_session(self, response: Response, request: Request, principal: Principal) -> None:
        """Open a session with a new secret, and end the one that the browser had: a secret set before sign-in is worth nothing."""
        before = self.cookies.read(request, SESSION)
        if before is not None:
            self._ledger.portal_sessions.close(before)
        secret = secrets.token_urlsafe(32)
        self._ledger.portal_sessions.open(
            secret, principal.login, principal.name, principal.granted, str(principal.method), self.longest
        )
        self.cookies.write(response, SESSION, secret)
        mark_valid(request.scope)

    def note_refusal(self, request: Request, method: SignIn, why: str, login: str | None = None) -> None:
        """Record a refused sign-in in the audit trail; of one address only some a minute, so that nobody can fill it."""
        address = request.client.host if request.client else ""
        if self._refusals.take(address, self._monotonic()):
            self._ledger.sign_in_failures.note(str(method), login, address, why)

    def end_session(self, response: Response, request: Request) -> None:
        """End the browser's session in the ledger, and have it forget the cookie."""
        cookie = self.cookies.read(request, SESSION)
        if cookie is not None:
            self._ledger.portal_sessions.close(cookie)
        self.cookies.remove(response, SESSION)

    def refusal(self, status: int, text: str, *, api: bool, principal: Principal | None = None) -> Response:
        """An error as people or programs read it."""
        if api:
            return problem(status, text)
        return html(self._templates.render("message.html", principal=principal, title="corewatch", text=text), status)

    def _by_session(self, cookie: str, *, used: bool) -> Principal | None:
        session = self._ledger.portal_sessions.find(cookie, self.idle, self.longest, used=used)
        if session is None or session.method not in SignIn.__members__.values():
            return None
        method = SignIn(session.method)
        if method in FROM_LEDGER:
            user = self._ledger.users.get(session.login)
            if not self._portal.users or user is None or not user.enabled:
                return None
            return Principal(user.login, user.name, user.roles, method)
        if method is SignIn.OIDC and self._portal.oidc is not None:
            return Principal(session.login, session.name, session.roles, method)
        return None

    def _by_token(self, secret: str) -> Principal | None:
        token = self._ledger.portal_tokens.find(secret, TokenKind.API)
        user = None if token is None else self._ledger.users.get(token.login)
        if token is None or user is None or not user.enabled:
            return None
        return Principal(user.login, user.name, token.roles & user.roles, SignIn.TOKEN)

    def _by_proxy(self, request: Request) -> Principal | None:
        settings = self._portal.proxy_login
        if settings is None or not is_trusted_proxy(tcp_peer(request.scope), self._portal.proxies):
            return None
        return principal_of_header(request.headers, settings)

    def _header_for_api(self) -> bool:
        return self._portal.proxy_login is not None and self._portal.proxy_login.api

    def _is_api(self, request: Request) -> bool:
        return request.url.path.removeprefix(self._portal.base_path).startswith("/api/")

    def _not_signed_in(self, request: Request, *, background: bool, api: bool) -> Response:
        if self.is_closed():
            return self.refusal(404, "There is no such page. Links in mails work without signing in.", api=api)
        if api:
            answer = self.refusal(401, "Sign in, or send a valid token.", api=True)
            answer.headers["www-authenticate"] = 'Bearer realm="corewatch"'
            return answer
        if request.method not in SAFE_METHODS or background or "hx-request" in request.headers:
            return self.refusal(401, "You are signed out. Open the page again and sign in.", api=False)
        target = request.url.path.removeprefix(self._portal.base_path) + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(self._templates.url(f"/login?next={quote(target, safe='')}"), 303)
