"""Sign-in at an OpenID provider that runs as a program. About 8 s."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from tests.support.identity_provider import CLIENT, SECRET
from tests.support.net import answers, free_port, wait_for
from tests.support.portal import RunningPortal, running_portal

UTE = {"preferred_username": "ute", "name": "Ute Brandt", "groups": ["staff", "stroke-team"]}


@pytest.fixture(scope="module")
def says(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("provider") / "says.json"


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory, says: Path) -> Iterator[RunningPortal]:
    says.write_text("{}")
    port = free_port()
    provider = subprocess.Popen([sys.executable, "-m", "tests.support.identity_provider", str(port), str(says)])
    oidc = {
        "issuer": f"http://127.0.0.1:{port}",
        "client_id": CLIENT,
        "client_secret": SECRET,
        "roles": {"stroke-team": ["viewer"], "it": ["admin", "operator"]},
    }
    try:
        wait_for("the provider", lambda: answers(port), 30)
        with running_portal(tmp_path_factory.mktemp("portal"), {"oidc": oidc}) as started:
            yield started
    finally:
        provider.terminate()
        provider.wait(10)


def sign_in(portal: RunningPortal, target: str = "/") -> tuple[requests.Session, requests.Response]:
    """Go to the provider and back; the last answer is the callback's."""
    browser = requests.Session()
    start = browser.get(f"{portal.url}/login/oidc", params={"next": target}, allow_redirects=False, timeout=10)
    assert start.status_code == 303, start.text
    asked = {name: values[0] for name, values in parse_qs(urlsplit(start.headers["location"]).query).items()}
    assert asked["code_challenge_method"] == "S256"
    back = browser.get(start.headers["location"], allow_redirects=False, timeout=10).headers["location"]
    assert back.startswith(f"{portal.url}/login/oidc/callback?")
    return browser, browser.get(back, allow_redirects=False, timeout=10)


def is_signed_in(portal: RunningPortal, browser: requests.Session) -> bool:
    return browser.get(f"{portal.url}/login", allow_redirects=False, timeout=10).status_code == 303


def test_a_group_gives_its_role_and_leads_back(portal: RunningPortal, says: Path) -> None:
    says.write_text(json.dumps({"claims": UTE}))
    browser, answer = sign_in(portal, "/cases/c1?tab=2")
    assert answer.status_code == 303, answer.text
    assert answer.headers["location"] == "/cases/c1?tab=2"
    assert is_signed_in(portal, browser)
    line = [one for one in portal.ledger.audit_trail.lines() if one.event == "portal.signed_in"][-1]
    assert (line.detail["by"], line.detail["method"]) == ("ute", "oidc")
    page = requests.get(f"{portal.url}/login", timeout=10).text
    assert "/login/oidc?next=" in page


def test_groups_of_the_user_info_count_if_it_is_of_the_same_person(portal: RunningPortal, says: Path) -> None:
    says.write_text(json.dumps({"userinfo": UTE | {"sub": "1"}}))
    assert sign_in(portal)[1].status_code == 303
    says.write_text(json.dumps({"userinfo": UTE | {"sub": "2"}}))
    assert sign_in(portal)[1].status_code == 403


ONE_HOUR_AGO, IN_ONE_HOUR = "an hour ago", "in an hour"
"""Times that the test fills in: the parallel test processes must name their tests alike."""


@pytest.mark.parametrize(
    "said",
    [
        {"claims": UTE | {"groups": ["staff"]}},
        {"claims": UTE | {"groups": {"stroke-team": True}}},
        {"claims": UTE | {"preferred_username": ""}},
        {"claims": UTE | {"preferred_username": ["ute"]}},
        {"claims": UTE | {"preferred_username": "u" * 200}},
        {"claims": UTE, "id_token": {"aud": "another"}},
        {"claims": UTE, "id_token": {"aud": [CLIENT, "another"]}},
        {"claims": UTE, "id_token": {"azp": "another"}},
        {"claims": UTE, "id_token": {"iss": "https://another.example"}},
        {"claims": UTE, "id_token": {"nonce": "of another sign-in"}},
        {"claims": UTE, "id_token": {"exp": ONE_HOUR_AGO}},
        {"claims": UTE, "id_token": {"iat": IN_ONE_HOUR}},
        {"claims": UTE, "key": "other"},
        {"claims": UTE, "algorithm": "HS256"},
        {"claims": UTE, "refuse": True},
    ],
    ids=lambda said: json.dumps({k: v for k, v in said.items() if v != UTE})[:50],
)
def test_who_may_not_sign_in(portal: RunningPortal, says: Path, said: dict[str, Any]) -> None:
    now = {ONE_HOUR_AGO: int(time.time()) - 3600, IN_ONE_HOUR: int(time.time()) + 3600}
    claims = {name: now.get(value, value) if isinstance(value, str) else value for name, value in said.get("id_token", {}).items()}
    says.write_text(json.dumps(said | ({"id_token": claims} if claims else {})))
    browser, answer = sign_in(portal)
    assert answer.status_code == 403, answer.text
    assert not is_signed_in(portal, browser)
    assert "Traceback" not in portal.log.read_text()


def test_an_answer_counts_only_in_the_browser_that_asked(portal: RunningPortal, says: Path) -> None:
    says.write_text(json.dumps({"claims": UTE}))
    mine, other = requests.Session(), requests.Session()
    start = mine.get(f"{portal.url}/login/oidc", allow_redirects=False, timeout=10)
    back = mine.get(start.headers["location"], allow_redirects=False, timeout=10).headers["location"]
    assert other.get(back, timeout=10).status_code == 400
    other.get(f"{portal.url}/login/oidc", allow_redirects=False, timeout=10)
    assert other.get(back, timeout=10).status_code == 400, "the state is of another browser"
    assert mine.get(back + "&iss=https://evil.example", timeout=10, allow_redirects=False).status_code in (303, 400)
    says.write_text("{}")
    for query in ("", "?code=x", "?state=x&code=x", "?code=" + "x" * 5000):
        assert requests.get(f"{portal.url}/login/oidc/callback{query}", timeout=10).status_code == 400


@pytest.mark.parametrize("target", ["//evil.example", "/\\evil.example", "https://evil.example", "/%0d%0aX-A: b", "javascript:1"])
def test_no_way_leads_to_another_site(portal: RunningPortal, says: Path, target: str) -> None:
    says.write_text(json.dumps({"claims": UTE}))
    answer = sign_in(portal, target)[1]
    assert answer.status_code == 303
    assert answer.headers["location"] in ("/", "/%0d%0aX-A:%20b")
