"""The portal as a program of its own, on a free port of loopback, with its ledger."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import requests
import yaml

from config import load_settings
from config.settings import Settings
from corewatch.roles import Role
from corewatch.states import CaseState
from ledger.portal_tokens import TokenKind
from ledger.store import Ledger
from outputs.links import Links
from portal.access.passwords import Passwords
from tests.support.ledger import queued
from tests.support.net import answers, free_port, wait_for
from tests.support.programs import COMMAND

PASSWORD = "four plain words here"


@dataclass
class RunningPortal:
    """A portal that answers."""

    url: str
    port: int
    settings: Settings
    ledger: Ledger
    links: Links
    log: Path
    process: subprocess.Popen[bytes]

    def found(self, series: str, core_ml: float, side: str) -> str:
        """A case with a finding, whose mail waits."""
        case_id, alert = queued(self.ledger, series), core_ml >= 20
        self.ledger.cases.advance(case_id, CaseState.QUEUED, CaseState.PREPARED)
        self.ledger.cases.advance(case_id, CaseState.PREPARED, CaseState.DETECTED, core_ml=core_ml, side=side, alert=alert)
        waits = [timedelta(minutes=10)] if alert else None
        self.ledger.deliveries.plan(case_id, CaseState.DETECTED, CaseState.DELIVERING, {"email": None}, escalation=waits)
        return case_id

    def alert(self, series: str) -> str:
        """A case with an alert that nobody has acknowledged."""
        return self.found(series, 41.7, "left")

    def user(self, login: str, *roles: Role, password: str = PASSWORD) -> str:
        """Add a user with a password."""
        assert self.ledger.users.add(login, login.title(), roles, Passwords().hash(password), "test")
        return login

    def signed_in(self, login: str) -> requests.Session:
        """A browser in which this user is signed in, by a link that is valid once."""
        return signed_in(self.ledger, self.url, login)


def signed_in(ledger: Ledger, url: str, login: str) -> requests.Session:
    """A browser in which this user is signed in, by a link that is valid once."""
    _token, secret = ledger.portal_tokens.add(login, "test", (), timedelta(minutes=5), "test", TokenKind.ONCE)
    session = requests.Session()
    session.headers["sec-fetch-site"] = "same-origin"
    answer = session.post(f"{url}/login/once/{secret}", timeout=10, allow_redirects=False)
    assert answer.status_code == 303, answer.text
    return session


@contextmanager
def running_portal(folder: Path, section: dict[str, Any] | None = None, **more: Any) -> Iterator[RunningPortal]:
    """Start `corewatch portal` with these settings; it must end with 0 on SIGTERM."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "corewatch.yaml"
    section = {"port": port, "url": f"http://127.0.0.1:{port}", "metrics_port": None} | (section or {})
    file.write_text(yaml.safe_dump({"data_dir": "./data", "portal": section} | more))
    settings = load_settings(file, {})
    assert settings.portal is not None
    ledger = Ledger(settings.database_url)
    log = folder / "log"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COREWATCH__")}
    with log.open("wb") as out:
        command = [COMMAND, "portal", "--config", str(file)]
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
        try:
            wait_for("the portal", lambda: answers(port), 60)
            url = str(section["url"])
            links = Links(settings.portal.link_key(settings.data_dir), url)
            yield RunningPortal(url, port, settings, ledger, links, log, process)
        finally:
            process.terminate()
            assert process.wait(30) == 0, log.read_text()
            ledger.close()
