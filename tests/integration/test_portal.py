"""The portal as a program of its own: what a link shows, what it does, and what it refuses."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urljoin

import pytest
import requests

from corewatch import RESEARCH_LABEL
from corewatch.destinations import escalation
from corewatch.reasons import Reason
from corewatch.states import CaseState, DeliveryState
from ledger.alerts import EscalationState
from outputs.links import Links
from tests.support.ledger import queued
from tests.support.portal import RunningPortal, running_portal

_addresses = itertools.count(1)


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPortal]:
    # every test asks from an address of its own, as if through a proxy
    with running_portal(tmp_path_factory.mktemp("portal"), {"proxies": ["127.0.0.1"]}) as started:
        yield started


@pytest.fixture(autouse=True)
def own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no test uses up another one's requests."""
    ask, mine = requests.Session.request, f"198.51.100.{next(_addresses)}"

    def asked(session: requests.Session, method: str, url: str, **more: Any) -> requests.Response:
        more["headers"] = {"X-Forwarded-For": mine} | (more.get("headers") or {})
        return ask(session, method, url, **more)

    monkeypatch.setattr(requests.Session, "request", asked)


def test_looking_changes_nothing(portal: RunningPortal) -> None:
    """Mail filters open every link, and some send HEAD or follow a form's address by GET."""
    case_id = portal.alert("1.1")
    link = portal.links.to(case_id, "team")
    for _ in range(3):
        page = requests.get(link, timeout=10)
        assert page.status_code == 200
    requests.get(link + "?name=Scanner", timeout=10)
    alert = portal.ledger.alerts.get(case_id)
    assert alert is not None
    assert alert.acknowledged_at is None
    for words in (case_id, "42 mL", "LEFT", "I have seen this alert", RESEARCH_LABEL):
        assert words in page.text
    assert "<script" not in page.text


def test_no_answer_redirects_to_the_host_that_a_request_names(portal: RunningPortal) -> None:
    link = portal.links.to(portal.alert("1.99"), "team")
    answer = requests.get(f"{link}/", headers={"Host": "attacker.example"}, allow_redirects=False, timeout=10)
    assert answer.status_code == 404
    assert "attacker.example" not in str(answer.headers) + answer.text


def test_the_page_says_what_the_mail_says(portal: RunningPortal) -> None:
    """No volume is rounded across the alert's threshold, and no side is said to be unclear in words."""
    page = requests.get(portal.links.to(portal.found("1.21", 19.97, "none"), "team"), timeout=10)
    for words in ("No alert", "19.97 mL", "no clear side"):
        assert words in page.text
    assert "20.0 mL" not in page.text


def test_the_button_acknowledges_once(portal: RunningPortal) -> None:
    case_id = portal.alert("1.2")
    link = portal.links.to(case_id, "night")
    page = requests.post(link, data={"name": "  Dr. <b>Ute</b>\u2028 Brandt "}, timeout=10)
    assert [answer.status_code for answer in page.history] == [303], "reloading sends nothing again"
    assert "Dr. &lt;b&gt;Ute&lt;/b&gt; Brandt" in page.text
    assert "<button" not in page.text
    requests.post(portal.links.to(case_id, "team"), data={"name": "Second"}, timeout=10)
    alert = portal.ledger.alerts.get(case_id)
    assert alert is not None
    assert (alert.acknowledged_by, alert.acknowledged_as) == ("Dr. <b>Ute</b> Brandt", "night")
    assert [level.state for level in portal.ledger.alerts.levels(case_id)] == [EscalationState.CANCELLED]
    assert portal.links.token(case_id, "night") not in portal.log.read_text(), "a link in a log is a key in a log"
    assert "Brandt" not in portal.log.read_text()


def test_the_way_back_stays_below_the_address_that_a_proxy_gives_it(portal: RunningPortal) -> None:
    case_id = portal.alert("1.18")
    answer = requests.post(portal.links.to(case_id, "team"), data={"name": "Ute"}, timeout=10, allow_redirects=False)
    below = f"https://clinic.example/corewatch/a/{portal.links.token(case_id, 'team')}"
    assert urljoin(below, answer.headers["location"]).startswith("https://clinic.example/corewatch/a/")


def test_an_alert_of_a_case_that_a_destination_refused_is_still_called_one(portal: RunningPortal) -> None:
    case_id = portal.alert("1.19")
    # nobody has the mail: the first level of the escalation starts at once, and is refused too
    for name, ends in (("email", False), (escalation(1), True)):
        assert portal.ledger.deliveries.begin(case_id, name, lease_s=60)
        assert portal.ledger.deliveries.end(case_id, name, DeliveryState.REFUSED, detail="550") is ends
    page = requests.get(portal.links.to(case_id, "team"), timeout=10)
    assert '<h1 class="alert">ALERT' in page.text
    assert "I have seen this alert" in page.text


@pytest.mark.parametrize("name", ["", "   ", "\x00\x01", "x" * 101])
def test_without_a_name_nothing_is_acknowledged(name: str, portal: RunningPortal) -> None:
    case_id = portal.alert(f"1.3.{len(name)}.{ord(name[:1] or '0')}")
    page = requests.post(portal.links.to(case_id, "team"), data={"name": name}, timeout=10)
    assert page.status_code == 422
    assert "name." in page.text
    alert = portal.ledger.alerts.get(case_id)
    assert alert is not None
    assert alert.acknowledged_at is None


def test_links_that_are_not_ours_say_nothing(portal: RunningPortal) -> None:
    case_id = portal.alert("1.4")
    good = portal.links.token(case_id, "team")
    foreign = Links(b"another key" * 4).token(case_id, "team")
    # not the last letter, which has bits that mean nothing
    spoiled = good[:-9] + ("A" if good[-9] != "A" else "B") + good[-8:]
    for token in (spoiled, foreign, "x", "x" * 5000, "%00", case_id):
        for page in (requests.get(f"{portal.url}/a/{token}", timeout=10), requests.post(f"{portal.url}/a/{token}", timeout=10)):
            assert page.status_code in (404, 415), token[:20]
            assert case_id not in page.text
    assert portal.links.read(good, timedelta(days=1)) is not None
    assert portal.links.read(good, timedelta(seconds=-1)) is None
    for path in ("/", "/a/", "/docs", "/a/../etc/passwd"):
        assert requests.get(portal.url + path, timeout=10).status_code == 404


def test_headers_shut_the_page_in(portal: RunningPortal) -> None:
    page = requests.get(portal.links.to(portal.alert("1.5"), "team"), timeout=10)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "server" not in page.headers
    assert "set-cookie" not in page.headers


def test_other_kinds_of_cases_have_no_button(portal: RunningPortal) -> None:
    superseded = portal.alert("1.6")
    portal.ledger.cases.advance(superseded, CaseState.DELIVERING, CaseState.SUPERSEDED, superseded_by="thelaterone")
    ended = queued(portal.ledger, "1.7")
    portal.ledger.cases.advance(ended, CaseState.QUEUED, CaseState.NOT_ANALYSED, reason=Reason.MISSING_SLICES, detail="x")
    for case_id, words in (
        (superseded, "Replaced by a later revision"),
        (superseded, "case thelaterone"),
        (ended, "not a negative result"),
    ):
        page = requests.get(portal.links.to(case_id, "team"), timeout=10)
        assert words in page.text
        assert "<button" not in page.text
    requests.post(portal.links.to(ended, "team"), data={"name": "Dr. X"}, timeout=10)
    assert portal.ledger.alerts.get(ended) is None


def test_large_bodies_and_other_forms_are_refused(portal: RunningPortal) -> None:
    link = portal.links.to(portal.alert("1.8"), "team")
    assert requests.post(link, data={"name": "x" * 5000}, timeout=10).status_code == 413
    assert requests.post(link, json={"name": "x"}, timeout=10).status_code == 415


def test_one_address_cannot_ask_without_end(portal: RunningPortal) -> None:
    seen = {
        requests.get(f"{portal.url}/a/x", headers={"X-Forwarded-For": "203.0.113.9"}, timeout=10).status_code for _ in range(40)
    }
    assert seen == {404, 429}
    assert requests.get(f"{portal.url}/a/x", headers={"X-Forwarded-For": "203.0.113.10"}, timeout=10).status_code == 404
    assert requests.get(f"{portal.url}/healthz", timeout=10).text == "OK"
