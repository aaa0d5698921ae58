"""Routes of the portal. Each names the roles that may use it, or is in the short list of open ones: else the portal does not start.

>>> from corewatch.roles import Role
>>> def routes(site):
...     def worklist(request, principal):
...         return html(site.templates.render("worklist.html", principal=principal))
...     return [page(site, "/", worklist, roles={Role.VIEWER})]
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from corewatch.roles import Role
from portal.access.principal import Principal
from portal.responses import retry_later
from portal.serving.streams import TooManyStreams
from portal.site import Site

Endpoint = Callable[[Request, Principal], Response | Awaitable[Response]]
"""A page. A plain function runs in a thread, so that it may read the ledger and files."""

OPEN: Final = frozenset(
    {
        "/a/{token}",
        "/healthz",
        "/readyz",
        "/login",
        "/login/oidc",
        "/login/oidc/callback",
        "/login/once/{token}",
        "/logout",
        "/static/{path:path}",
    }
)
"""Paths that need no role: signed links, health, sign-in, and static files, which are the same in every installation."""


class GuardedRoute(Route):
    """A route with the roles of which one is needed; `roles` is None for an open route."""

    roles: frozenset[Role] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it needs no role."""
        return self.roles is None


def page(
    site: Site, path: str, endpoint: Endpoint, *, roles: Collection[Role], methods: Collection[str] = ("GET",),
    background: bool = False,
) -> GuardedRoute:  # fmt: skip
    """A page for people. Without a session they are led to the sign-in and back.

    Parameters
    ----------
    roles
        One of them is needed.
    background
        The page asks for this by itself (polling, live events): it does not prolong the session.
    """
    return _guarded(site, path, endpoint, roles, methods, background=background, api=False)


def api(
    site: Site, path: str, endpoint: Endpoint, *, roles: Collection[Role], methods: Collection[str] = ("GET",),
    background: bool = False,
) -> GuardedRoute:  # fmt: skip
    """An address for programs and scripts: a session or a bearer token; errors as RFC 9457."""
    return _guarded(site, path, endpoint, roles, methods, background=background, api=True)


def open_route(path: str, endpoint: Callable[..., Any], *, methods: Collection[str] = ("GET",)) -> GuardedRoute:
    """A route for everybody; its path must be in `OPEN`."""
    return GuardedRoute(path, endpoint, methods=list(methods))


def checked(routes: Iterable[BaseRoute]) -> list[BaseRoute]:
    """The routes, if each names its roles or is in `OPEN`.

    Raises
    ------
    TypeError
        One does neither.
    """
    found = list(routes)
    for route in walk(found):
        if not isinstance(route, GuardedRoute) or not (route.path in OPEN if route.roles is None else route.roles):
            raise TypeError(f"the route {getattr(route, 'path', route)} names no roles, and is not in portal.routing.OPEN")
    return found


def walk(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """Every route, also those of routes that hold others."""
    for route in routes:
        inner = getattr(route, "routes", None)
        if inner:
            yield from walk(inner)
        else:
            yield route


def _guarded(
    site: Site, path: str, endpoint: Endpoint, roles: Collection[Role], methods: Collection[str], *, background: bool, api: bool
) -> GuardedRoute:
    needed = frozenset(roles)
    is_async = inspect.iscoroutinefunction(endpoint)

    async def guarded(request: Request) -> Response:
        answer = await run_in_threadpool(site.access.admit, request, needed, background=background, api=api)
        if isinstance(answer, Response):
            return answer
        request.state.principal = answer
        try:
            found = endpoint(request, answer) if is_async else await run_in_threadpool(endpoint, request, answer)
            return await found if inspect.isawaitable(found) else found
        except ClientDisconnect:  # nobody is there to read it
            return Response(status_code=408)
        except TooManyStreams:
            return retry_later(site.access.refusal(503, "Too many live pages are open.", api=api), 30)

    name = getattr(endpoint, "__name__", type(endpoint).__name__)
    route = GuardedRoute(path, guarded, methods=list(methods), name=name)
    route.roles = needed
    return route
