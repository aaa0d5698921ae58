"""Who may do what in the portal: every role on every route, sessions, tokens, forged requests, guessing. About 20 s."""

from __future__ import annotations

import itertools
import re
import statistics
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from starlette.routing import Route
from structlog.testing import capture_logs

from corewatch.roles import Role, with_included
from ledger.portal_tokens import TokenKind
from portal.app import make_site, routes_of
from portal.routing import OPEN, GuardedRoute, walk
from tests.support.portal import PASSWORD, RunningPortal, running_portal

PROXY_LOGIN = {"roles": {"night": ["viewer"]}, "default_roles": [], "groups_header": "X-Remote-Groups"}
SAME = {"sec-fetch-site": "same-origin"}
_addresses = itertools.count(1)


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPortal]:
    folder = tmp_path_factory.mktemp("portal")
    with running_portal(folder, {"proxies": ["127.0.0.1"], "proxy_login": PROXY_LOGIN, "sign_in_failures": 5}) as started:
        for role in Role:
            started.user(str(role), role)
        started.user("nothing")
        yield started


@pytest.fixture
def own_address() -> dict[str, str]:
    """Headers of a browser with an address that no other test has."""
    return {"x-forwarded-for": f"198.51.100.{next(_addresses)}", **SAME}


def status(answer: requests.Response) -> int:
    answer.close()
    return answer.status_code


def routes(portal: RunningPortal) -> list[GuardedRoute]:
    found = [route for route in walk(routes_of(make_site(portal.settings, portal.ledger))) if isinstance(route, GuardedRoute)]
    assert found
    return found


def address_of(portal: RunningPortal, route: Route) -> str:
    return portal.url + re.sub(r"{[^}]*}", "1", route.path)


def test_every_role_on_every_route(portal: RunningPortal) -> None:
    """A route admits exactly those who have one of its roles; who is signed out gets nothing."""
    browsers = {role: portal.signed_in(str(role)) for role in Role}
    nobody, strangers = portal.signed_in("nothing"), requests.Session()
    wrong = []
    for route in routes(portal):
        if route.is_open:
            assert route.path in OPEN
            continue
        for method in sorted(route.methods or ()):
            for role, browser in [*browsers.items(), (None, nobody), ("stranger", strangers)]:
                more: dict[str, Any] = {"allow_redirects": False, "timeout": 10, "stream": True, "headers": SAME}
                answer = status(browser.request(method, address_of(portal, route), **more))
                admitted = isinstance(role, Role) and not with_included([role]).isdisjoint(route.roles or ())
                refused = answer in (401, 403) or (role == "stranger" and answer == 303)
                if admitted == refused:
                    wrong.append(f"{method} {route.path} for {role}: {answer}")
    assert wrong == []


@pytest.mark.parametrize("role", list(Role))
def test_every_role_finds_a_page_after_signing_in(portal: RunningPortal, own_address: dict[str, str], role: Role) -> None:
    session = requests.Session()
    session.headers.update(own_address)
    answer = session.post(f"{portal.url}/login", data={"login": str(role), "password": PASSWORD}, timeout=20)
    assert answer.status_code == 200
    expected = "Worklist" if Role.VIEWER in with_included([role]) else "Account"
    assert f"<h1>{expected}</h1>" in answer.text
    account = session.get(f"{portal.url}/account", timeout=20).text
    assert str(role) in account
    assert ("nothing" in account) == (role is Role.ADMIN), "the users are for administrators"


def test_open_routes_are_few() -> None:
    """A path that is added there needs a reason."""
    assert len(OPEN) <= 9


FORGED: list[dict[str, str]] = [
    {},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "none"},
    {"origin": "https://evil.example"},
    {"origin": "null"},
]


@pytest.mark.parametrize("headers", FORGED, ids=str)
def test_a_page_of_another_site_changes_nothing(portal: RunningPortal, headers: dict[str, str]) -> None:
    browser = portal.signed_in("viewer")
    del browser.headers["sec-fetch-site"]
    assert status(browser.post(f"{portal.url}/logout", headers=headers, timeout=10)) == 403
    form = {"login": "viewer", "password": PASSWORD}
    assert status(requests.post(f"{portal.url}/login", data=form, headers=headers, timeout=10)) == 403
    assert status(browser.get(f"{portal.url}/login", timeout=10, allow_redirects=False)) == 303, "still signed in"
    own = {"origin": portal.url}
    assert status(browser.post(f"{portal.url}/logout", headers=own, timeout=10, allow_redirects=False)) == 303


def test_a_session_has_a_new_secret_and_ends(portal: RunningPortal, own_address: dict[str, str]) -> None:
    browser = requests.Session()
    browser.cookies.set("corewatch", "chosen-by-somebody-else")
    answer = browser.post(
        f"{portal.url}/login",
        data={"login": " VIEWER", "password": PASSWORD, "next": "//evil"},
        headers=own_address,
        timeout=10,
        allow_redirects=False,
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "chosen" not in cookie
    assert all(word in cookie.lower() for word in ("httponly", "samesite=lax", "path=/"))
    secret = cookie.partition("=")[2].partition(";")[0]
    assert len(secret) >= 43, "256 bits"
    database = (portal.settings.data_dir / "ledger.sqlite").read_bytes()
    assert secret.encode() not in database
    mine = {"cookie": f"corewatch={secret}"}
    assert status(requests.get(f"{portal.url}/login", headers=mine, timeout=10, allow_redirects=False)) == 303
    for spoiled in (f"corewatch={secret}; corewatch={secret}", f"corewatch={secret[:-2]}", "corewatch=", "corewatch=" + "a" * 5000):
        assert status(requests.get(f"{portal.url}/login", headers={"cookie": spoiled}, timeout=10, allow_redirects=False)) == 200
    requests.post(f"{portal.url}/logout", headers={**mine, **SAME}, timeout=10)
    assert status(requests.get(f"{portal.url}/login", headers=mine, timeout=10, allow_redirects=False)) == 200
    events = [line.event for line in portal.ledger.audit_trail.lines()]
    assert {"portal.signed_in", "portal.signed_out"} <= set(events)
    assert secret not in portal.log.read_text()


def test_disabling_a_user_and_changing_a_password_end_sessions_at_once(portal: RunningPortal) -> None:
    portal.user("leaver", Role.VIEWER)
    _token, secret = portal.ledger.portal_tokens.add("leaver", "x", [Role.VIEWER], timedelta(days=1), "test")

    def is_in(browser: requests.Session) -> bool:
        return status(browser.get(f"{portal.url}/login", timeout=10, allow_redirects=False)) == 303

    for end in (
        lambda: portal.ledger.users.set_password("leaver", "x", "test"),
        lambda: portal.ledger.portal_sessions.close_all("leaver", "test"),
        lambda: portal.ledger.users.disable("leaver", "test"),
    ):
        browser = portal.signed_in("leaver")
        assert is_in(browser)
        end()
        assert not is_in(browser)
    assert portal.ledger.portal_tokens.find(secret, TokenKind.API) is not None
    assert not (portal.ledger.users.get("leaver") or pytest.fail("the user")).enabled


def test_the_sixth_attempt_is_refused_by_account_and_by_address(portal: RunningPortal) -> None:
    portal.user("target", Role.VIEWER)

    def attempt(login: str, password: str, address: str) -> int:
        headers = {"x-forwarded-for": address, **SAME}
        form = {"login": login, "password": password}
        return status(requests.post(f"{portal.url}/login", data=form, headers=headers, timeout=10, allow_redirects=False))

    assert [attempt("target", f"wrong {n}", f"203.0.113.{n}") for n in range(5)] == [401] * 5
    assert attempt("Target", PASSWORD, "203.0.113.9") == 429, "the account, from any address"
    assert [attempt(f"nobody{n}", "wrong", "203.0.113.20") for n in range(5)] == [401] * 5
    assert attempt("viewer", PASSWORD, "203.0.113.20") == 429, "the address, for any account"
    assert attempt("viewer", PASSWORD, "203.0.113.21") == 303
    trail = "".join(map(str, portal.ledger.audit_trail.lines()))
    assert "wrong 1" not in trail
    assert "nobody1" not in trail, "people type passwords into the field of the login"


def test_unknown_users_take_as_long_as_known_ones(portal: RunningPortal) -> None:
    portal.user("timed", Role.VIEWER)
    times: dict[str, list[float]] = {"timed": [], "absent": []}
    for n in range(4):
        for login, taken in times.items():
            headers = {"x-forwarded-for": f"192.0.2.{n}", **SAME}
            before = time.perf_counter()
            requests.post(f"{portal.url}/login", data={"login": login, "password": "wrong"}, headers=headers, timeout=10)
            taken.append(time.perf_counter() - before)
    known, unknown = (statistics.median(taken) for taken in times.values())
    assert 0.4 < known / unknown < 2.5


def test_a_link_signs_in_once_and_looking_does_not_spend_it(portal: RunningPortal, own_address: dict[str, str]) -> None:
    _token, secret = portal.ledger.portal_tokens.add("viewer", "x", (), timedelta(minutes=5), "test", TokenKind.ONCE)
    link = f"{portal.url}/login/once/{secret}"
    assert status(requests.get(link, timeout=10)) == 200
    answers = [requests.post(link, headers=own_address, timeout=10, allow_redirects=False) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [303, 404]
    _token, old = portal.ledger.portal_tokens.add("viewer", "x", (), timedelta(seconds=-1), "test", TokenKind.ONCE)
    assert status(requests.post(f"{portal.url}/login/once/{old}", headers=own_address, timeout=10)) == 404
    assert secret not in portal.log.read_text()


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "127.0.0.1:1", "evil@127.0.0.1", "127.0.0.1/x", ""])
def test_pages_of_another_host_name_are_refused(portal: RunningPortal, host: str) -> None:
    for route in routes(portal):
        if "GET" in (route.methods or ()) and (not route.is_open or route.path == "/login"):
            answer = requests.get(address_of(portal, route), headers={"host": host}, timeout=10, allow_redirects=False)
            assert status(answer) in (400, 421), route.path
    assert status(requests.get(f"{portal.url}/healthz", headers={"host": host}, timeout=10)) in (200, 400)


def test_the_header_of_a_proxy_counts_from_the_proxy_alone(portal: RunningPortal, tmp_path: Path) -> None:
    header = {"x-remote-user": "ute", "x-remote-groups": "staff; night"}
    assert status(requests.get(f"{portal.url}/login", headers=header, timeout=10, allow_redirects=False)) == 303
    with running_portal(tmp_path, {"proxies": ["10.255.255.1"], "proxy_login": PROXY_LOGIN}) as other:
        for forged in (
            {},
            {"x-forwarded-for": "10.255.255.1"},
            {"x-forwarded-for": "10.255.255.1, 127.0.0.1"},
            {"x-real-ip": "10.255.255.1"},
        ):
            answer = requests.get(f"{other.url}/login", headers=header | forged, timeout=10, allow_redirects=False)
            assert status(answer) == 200, forged


def test_nobody_fills_the_audit_trail(portal: RunningPortal, own_address: dict[str, str]) -> None:
    before = sum(1 for _ in portal.ledger.audit_trail.lines())
    for _ in range(30):
        requests.post(f"{portal.url}/login", data={"login": "viewer2", "password": "x"}, headers=own_address, timeout=10)
    assert sum(1 for _ in portal.ledger.audit_trail.lines()) - before <= 25


def test_a_route_without_roles_keeps_the_portal_from_starting(portal: RunningPortal) -> None:
    from portal.routing import checked, open_route, page

    site = make_site(portal.settings, portal.ledger)
    with capture_logs():
        for route in (
            Route("/x", lambda _request: None),
            open_route("/x", lambda _request: None),
            page(site, "/x", lambda _r, _p: None, roles=[]),
        ):  # type: ignore[arg-type, return-value]
            with pytest.raises(TypeError):
                checked([route])
