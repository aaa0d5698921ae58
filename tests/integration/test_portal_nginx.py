"""The portal behind nginx with `deploy/nginx.conf`: TLS, below a path, with Flower beside it. About 15 s."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from corewatch.roles import Role
from tests.support.certificates import Authority
from tests.support.net import answers, free_port, wait_for
from tests.support.portal import PASSWORD, RunningPortal, running_portal
from tests.support.programs import COMMAND

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.servers


@dataclass
class Proxied:
    """What people reach."""

    origin: str
    portal: RunningPortal
    browser: requests.Session

    @property
    def url(self) -> str:
        return self.portal.url


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str], str]) -> Iterator[Proxied]:
    nginx, folder = tool("nginx"), tmp_path_factory.mktemp("nginx")
    authority, port, flower = Authority(folder), free_port(), free_port()
    certificate, key = authority.issue("server")
    origin = f"https://127.0.0.1:{port}"
    portal = {"url": f"{origin}/corewatch", "proxies": ["127.0.0.1"]}
    more = {"flower": {"port": flower, "url_prefix": "dashboard", "password": "p"}, "broker": {"url": "redis://127.0.0.1:1/0"}}
    with running_portal(folder / "portal", portal, **more) as started:
        text = (ROOT / "deploy" / "nginx.conf").read_text()
        for before, after in {
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "server_name clinic.example": "server_name 127.0.0.1",
            "/etc/ssl/certs/clinic.example.pem": str(certificate),
            "/etc/ssl/private/clinic.example.key": str(key),
            "127.0.0.1:8080": f"127.0.0.1:{started.port}",
            "127.0.0.1:5555": f"127.0.0.1:{flower}",
        }.items():
            assert before in text
            text = text.replace(before, after)
        paths = "".join(f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        file = folder / "nginx.conf"
        file.write_text(
            f"daemon off; pid {folder}/pid; error_log {folder}/error.log;\n"
            f"events {{}}\nhttp {{ access_log off; {paths}\n{text}\n}}"
        )  # fmt: skip
        environment = {k: v for k, v in os.environ.items() if not k.startswith("COREWATCH__")}
        programs = [
            subprocess.Popen([nginx, "-c", str(file), "-e", str(folder / "early.log")]),
            subprocess.Popen([COMMAND, "flower", "--config", str(folder / "portal" / "corewatch.yaml")], env=environment),
        ]
        try:
            wait_for("nginx", lambda: answers(port), 20)
            wait_for("Flower", lambda: answers(flower), 60)
            browser = requests.Session()
            browser.trust_env = False  # else REQUESTS_CA_BUNDLE counts more than its `verify`
            browser.verify = str(authority.pem)
            yield Proxied(origin, started, browser)
        finally:
            for program in programs:
                program.terminate()
            for program in programs:
                program.wait(20)


def test_a_signed_link_is_acknowledged(site: Proxied) -> None:
    case_id = site.portal.alert("1.1")
    link = site.portal.links.to(case_id, "team")
    assert link.startswith(f"{site.origin}/corewatch/a/")
    page = site.browser.post(link, data={"name": "Ute"}, timeout=10)
    assert page.status_code == 200
    assert page.url == link
    assert "Acknowledged" in page.text


def test_people_sign_in_below_the_path(site: Proxied) -> None:
    site.portal.user("ute", Role.VIEWER)
    same = {"origin": site.origin, "x-forwarded-for": "203.0.113.5"}
    page = site.browser.get(f"{site.url}/login", timeout=10)
    assert re.search(r'action="/corewatch/login"', page.text)
    assert "max-age" in page.headers["strict-transport-security"]
    answer = site.browser.post(
        f"{site.url}/login", data={"login": "ute", "password": PASSWORD, "next": "/cases/c1"}, headers=same, timeout=10,
        allow_redirects=False,
    )  # fmt: skip
    assert (answer.status_code, answer.headers["location"]) == (303, "/corewatch/cases/c1")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-corewatch=")
    assert "Secure" in cookie
    assert "Domain" not in cookie
    assert site.browser.get(f"{site.url}/login", timeout=10, allow_redirects=False).status_code == 303
    forged = {"origin": "https://127.0.0.1"}
    assert site.browser.post(f"{site.url}/logout", headers=forged, timeout=10).status_code == 403
    wrong = site.browser.post(f"{site.url}/login", data={"login": "ute", "password": "x"}, headers=same, timeout=10)
    assert wrong.status_code == 401
    refused = [line.detail for line in site.portal.ledger.audit_trail.lines() if line.event == "portal.sign_in_refused"]
    assert refused[-1]["address"] == "127.0.0.1", "what a browser says of its address counts for nothing"
    out = site.browser.post(f"{site.url}/logout", headers={"origin": site.origin}, timeout=10, allow_redirects=False)
    assert out.headers["location"] == "/corewatch/login"


def test_without_a_session_the_way_leads_to_the_sign_in(site: Proxied) -> None:
    for path in ("/corewatch", "/corewatch/"):
        page = requests.get(site.origin + path, verify=str(site.browser.verify), timeout=10)
        assert page.url.startswith(f"{site.url}/"), page.url


def test_the_queue_monitor_is_beside_it(site: Proxied) -> None:
    page = site.browser.get(f"{site.origin}/dashboard/healthcheck", auth=("corewatch", "p"), timeout=20)
    assert page.text == "OK"
    assert site.browser.get(f"{site.origin}/dashboard/workers", timeout=20).status_code == 401
    found = site.browser.get(f"{site.origin}/dashboard/workers", auth=("corewatch", "p"), timeout=20)
    assert 'src="/dashboard/static/' in found.text
