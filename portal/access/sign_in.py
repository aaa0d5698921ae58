"""Sign-in and sign-out: the login page, and links that sign in once. Works without JavaScript."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute

from corewatch.roles import Role
from foundation.throttle import TokenBucket
from ledger.users import parse_login
from portal.access.origin import is_forged, safe_target
from portal.access.passwords import Passwords
from portal.access.principal import Principal, SignIn
from portal.forms import FormRefused, read_form
from portal.responses import html, retry_later
from portal.routing import open_route
from portal.site import Site

log = structlog.get_logger()

FAILURES_WITHIN: Final = timedelta(minutes=15)

_ACCOUNT: Final = "/account"
_ATTEMPTS_AT_ONCE: Final = 8
_WRONG: Final = "Login or password is wrong, or the user is disabled."


def home(principal: Principal) -> str:
    """The first page of somebody with these roles."""
    return "/" if principal.has(Role.VIEWER) else _ACCOUNT


def signed_in(site: Site, request: Request, principal: Principal, target: str) -> Response:
    """Open a session and go to the page that was asked for."""
    wanted = safe_target(target)
    answer = RedirectResponse(site.templates.url(home(principal) if wanted == "/" else wanted), 303)
    site.access.start_session(answer, request, principal)
    return answer


class SignInPages:
    """The pages, on one site."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._passwords = Passwords()
        self._turns = asyncio.Semaphore(_ATTEMPTS_AT_ONCE)
        self._invalid_links = TokenBucket(per_s=0.5, burst=10, max_peers=10_000)

    def routes(self) -> list[BaseRoute]:
        """The routes; all are open."""
        return [
            open_route("/login", self._show),
            open_route("/login", self._sign_in, methods=["POST"]),
            open_route("/login/once/{token}", self._show_link),
            open_route("/login/once/{token}", self._use_link, methods=["POST"]),
            open_route("/logout", self._sign_out, methods=["POST"]),
        ]

    async def _show(self, request: Request) -> Response:
        return await run_in_threadpool(self._login_page, request, request.query_params.get("next", "/"))

    def _login_page(self, request: Request, target: str, problem: str = "", login: str = "", status: int = 200) -> Response:
        access = self._site.access
        refusal = access.misdirected(request)
        if refusal is not None:
            return refusal
        if access.is_closed():
            return access.refusal(404, "There is no such page. Links in mails work without signing in.", api=False)
        target = safe_target(target)
        principal = access.identify(request, used=False)
        if principal is not None and not problem:
            return RedirectResponse(self._site.templates.url(home(principal) if target == "/" else target), 303)
        page = self._site.templates.render(
            "login.html",
            title="Sign in",
            target=target,
            problem=problem,
            login=login,
            passwords=self._site.portal.users,
            provider=self._site.portal.oidc is not None,
        )
        return html(page, status)

    async def _sign_in(self, request: Request) -> Response:
        try:
            form = await read_form(request)
        except FormRefused as refused:
            return self._site.access.refusal(refused.status, refused.text, api=False)
        refusal = await run_in_threadpool(self._refuse_post, request)
        if refusal is not None:
            return refusal
        async with self._turns:  # so that waiting attempts hold no threads, which pages need
            return await run_in_threadpool(self._with_password, request, form)

    def _with_password(self, request: Request, form: dict[str, str]) -> Response:
        site, target = self._site, form.get("next", "/")
        login = parse_login(form.get("login", "")) or ""
        address = request.client.host if request.client else ""
        if not site.portal.users:
            return site.access.refusal(404, "There is no such page.", api=False)
        subjects = (f"account {login}", f"address {address}")
        failures, user = site.ledger.sign_in_failures, site.ledger.users.get(login)
        if not failures.begin(subjects, site.portal.sign_in_failures, FAILURES_WITHIN):
            site.access.note_refusal(request, SignIn.PASSWORD, "too many failures", None if user is None else login)
            minutes = int(FAILURES_WITHIN.total_seconds() // 60)
            text = f"Too many failed attempts. Try again in {minutes} minutes. Links in mails still work."
            return retry_later(self._login_page(request, target, text, login, 429), minutes * 60)
        matches = self._passwords.matches(None if user is None else user.password_hash, form.get("password", ""))
        if user is None or not matches or not user.enabled:
            site.access.note_refusal(request, SignIn.PASSWORD, "wrong login or password", None if user is None else login)
            return self._login_page(request, target, _WRONG, login, 401)
        failures.succeeded(*subjects)
        if self._passwords.is_outdated(user.password_hash):
            site.ledger.users.rehash(user.login, user.password_hash, self._passwords.hash(form["password"]))
        return signed_in(site, request, Principal(user.login, user.name, user.roles, SignIn.PASSWORD), target)

    async def _show_link(self, request: Request) -> Response:
        """A page with a button: programs that preview links must not spend this one."""
        refusal = await run_in_threadpool(self._site.access.misdirected, request)
        if refusal is not None:
            return refusal
        return html(self._site.templates.render("login_once.html", title="Sign in"), headers={"referrer-policy": "same-origin"})

    async def _use_link(self, request: Request) -> Response:
        return await run_in_threadpool(self._with_link, request, str(request.path_params["token"]))

    def _with_link(self, request: Request, token: str) -> Response:
        site, address = self._site, request.client.host if request.client else ""
        refusal = self._refuse_post(request)
        if refusal is not None:
            return refusal
        spent = site.ledger.portal_tokens.use_once(token) if site.portal.users else None
        user = None if spent is None else site.ledger.users.get(spent.login)
        if user is None or not user.enabled:
            if not self._invalid_links.take(address, site.monotonic()):
                return retry_later(site.access.refusal(429, "Too many requests. Please wait a minute.", api=False), 60)
            site.access.note_refusal(request, SignIn.LINK, "link not valid")
            return site.access.refusal(404, "This link is not valid, or was used.", api=False)
        return signed_in(site, request, Principal(user.login, user.name, user.roles, SignIn.LINK), "/")

    async def _sign_out(self, request: Request) -> Response:
        return await run_in_threadpool(self._end, request)

    def _end(self, request: Request) -> Response:
        refusal = self._refuse_post(request)
        if refusal is not None:
            return refusal
        answer = RedirectResponse(self._site.templates.url("/login"), 303)
        self._site.access.end_session(answer, request)
        return answer

    def _refuse_post(self, request: Request) -> Response | None:
        """Another site must sign nobody in or out: a reader would work under a foreign login."""
        access = self._site.access
        if access.is_closed():
            return access.refusal(404, "There is no such page.", api=False)
        refusal = access.misdirected(request)
        if refusal is None and is_forged(request.method, request.headers, self._site.portal.url or ""):
            refusal = access.refusal(403, "This request came from another site, and was refused.", api=False)
        return refusal
