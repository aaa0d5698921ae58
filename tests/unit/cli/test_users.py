"""`corewatch users`: people, links and tokens of the portal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from cli.main import corewatch
from config import load_settings
from corewatch.roles import Role
from ledger.store import Ledger
from portal.access.passwords import Passwords


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "corewatch.yaml"
    path.write_text(yaml.safe_dump({"data_dir": "./data", "portal": {"url": "https://clinic.example/corewatch"}}))
    return path


def users(file: Path, *arguments: str, typed: str = "") -> Result:
    return CliRunner().invoke(corewatch, ["users", *arguments, "--config", str(file)], input=typed)


def test_a_user_is_added_with_a_password_from_standard_input(file: Path) -> None:
    added = users(file, "add", "Ute", "--role", "viewer", "--password-stdin", typed="four plain words here\n")
    assert added.exit_code == 0, added.output
    ledger = Ledger(load_settings(file, {}).database_url)
    user = ledger.users.get("ute")
    assert user is not None
    assert user.password_hash.startswith("$argon2id$")
    assert Passwords().matches(user.password_hash, "four plain words here")
    assert users(file, "disable", "ute").exit_code == 0
    assert not (ledger.users.get("ute") or user).enabled
    listed = json.loads(users(file, "list", "--json").output)
    assert listed == [{"login": "ute", "name": "Ute", "roles": ["viewer"], "enabled": False}]
    assert {line.event for line in ledger.audit_trail.lines()} >= {"user.added", "user.disabled"}
    ledger.close()


@pytest.mark.parametrize("password", ["short", "aaaaaaaaaaaaaaaa", "x" * 300])
def test_a_weak_password_is_refused(file: Path, password: str) -> None:
    refused = users(file, "add", "ute", "--role", "viewer", "--password-stdin", typed=password + "\n")
    assert refused.exit_code == 2
    assert "choose" in refused.output


@pytest.mark.parametrize("login", ["a b", "", "-x", "x" * 65, "ü"])
def test_a_login_is_plain(file: Path, login: str) -> None:
    assert users(file, "add", "--role", "viewer", "--no-password", "--", login).exit_code == 2


def test_a_token_has_at_most_the_roles_of_its_user(file: Path) -> None:
    assert users(file, "add", "scanner", "--role", "submitter", "--no-password").exit_code == 0
    assert users(file, "token", "add", "scanner", "--role", "admin", "--label", "x").exit_code == 2
    made = users(file, "token", "add", "scanner", "--role", "submitter", "--label", "CT 1", "--json")
    token = json.loads(made.output)
    assert token["token"].startswith("cw_")
    assert token["token"] not in users(file, "token", "list", "--json").output
    assert users(file, "token", "revoke", token["id"]).exit_code == 0
    assert users(file, "token", "revoke", token["id"]).exit_code == 2
    assert token["roles"] == [str(Role.SUBMITTER)]


def test_a_link_leads_below_the_path_of_the_portal(file: Path) -> None:
    users(file, "add", "ute", "--role", "viewer", "--no-password")
    link = users(file, "link", "ute").output.strip()
    assert link.startswith("https://clinic.example/corewatch/login/once/cw_")
    assert users(file, "link", "nobody").exit_code == 2
