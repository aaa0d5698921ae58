"""Web application of the portal (Starlette): its routes, and what surrounds them.

Each room of pages is one module with a function `routes(site)`, named in `_ROOMS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from config.settings import Settings
from corewatch.errors import ConfigurationError
from ledger.store import Ledger
from outputs.links import PATH, Links
from portal.access.control import AccessControl
from portal.access.provider_sign_in import ProviderSignIn
from portal.access.sign_in import SignInPages
from portal.pages import account, case, case_files, events, static_files, worklist
from portal.responses import SecurityHeaders, problem
from portal.routing import checked, open_route
from portal.serving.peer import BasePath
from portal.serving.streams import StreamBudget
from portal.signed_links import SignedLinks
from portal.site import Site
from portal.templating import Templates

_ROOMS: Final[tuple[Callable[[Site], list[BaseRoute]], ...]] = (
    lambda site: SignedLinks(site).routes(),
    lambda site: SignInPages(site).routes(),
    lambda site: ProviderSignIn(site).routes() if site.portal.oidc is not None else [],
    static_files.routes,
    worklist.routes,
    case.routes,
    case_files.routes,
    events.routes,
    account.routes,
)


def make_site(settings: Settings, ledger: Ledger) -> Site:
    """The parts that pages share, from the settings.

    Raises
    ------
    ConfigurationError
        The settings have no `portal`.
    """
    portal = settings.portal
    if portal is None:
        raise ConfigurationError("portal: the settings have no such section", "add `portal: {url: https://...}`")
    templates = Templates(portal.base_path)
    return Site(
        settings=settings,
        portal=portal,
        ledger=ledger,
        links=Links(portal.link_key(settings.data_dir)),
        access=AccessControl(portal, ledger, templates),
        templates=templates,
        streams=StreamBudget(portal.streams),
    )


def routes_of(site: Site) -> list[BaseRoute]:
    """All routes; each names its roles or is in the list of open ones.

    Raises
    ------
    ConfigurationError
        The path of `portal.url` is also the beginning of a page's path.
    """
    routes = checked([*(route for room in _ROOMS for route in room(site)), open_route("/healthz", _health)])
    firsts = {route.path.split("/")[1] for route in routes if isinstance(route, Route)}
    if site.portal.base_path and site.portal.base_path.split("/")[1] in firsts - {""}:
        raise ConfigurationError(
            f"portal.url: pages of the portal begin with {site.portal.base_path} too", "use another path, such as /corewatch"
        )
    return routes


def make_application(site: Site) -> Starlette:
    """The ASGI application."""
    links = SignedLinks(site)

    def failure(status: int, text: str) -> Callable[[Request, Exception], Response]:
        def respond(request: Request, _error: Exception) -> Response:
            path = request.url.path.removeprefix(site.portal.base_path)
            if path.startswith("/api/"):
                return problem(status, text)
            if path.startswith(PATH) or site.access.is_closed():
                return links.message(text, status)
            return site.access.refusal(status, text, api=False)

        return respond

    app = Starlette(
        routes=routes_of(site),
        middleware=[Middleware(SecurityHeaders, secure=site.portal.secure), Middleware(BasePath, base_path=site.portal.base_path)],
        exception_handlers={
            404: failure(404, "There is no such page. Links in mails expire: please use the newest mail about the case."),
            405: failure(404, "There is no such page."),
            500: failure(500, "Something went wrong. Please try again, or call the team."),
        },
    )
    app.router.redirect_slashes = False  # the redirect would name the host that the request's Host header names
    return app


async def _health(_request: Request) -> Response:
    return PlainTextResponse("OK")
