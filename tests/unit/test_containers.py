"""docker-compose.yml, the Dockerfiles and the locked requirements: what can be known without a Docker engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from cli.main import corewatch
from config import load_settings
from jobs.names import QUEUES

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if service.get("image") == "corewatch"}
DOCKERFILES = sorted((ROOT / "docker").glob("Dockerfile*"))
REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))


def test_every_program_is_a_service() -> None:
    commands = sorted(" ".join(service["command"]) for service in OURS.values())
    assert commands == sorted(["listen", "watch", "flower", *(f"work --queues {q}" for q in QUEUES)])


@pytest.mark.parametrize("name", sorted(OURS))
def test_the_command_exists(name: str) -> None:
    done = CliRunner().invoke(corewatch, [OURS[name]["command"][0], "--help"])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("name", sorted(OURS))
def test_the_environment_is_made_of_known_settings(name: str, tmp_path: Path) -> None:
    environment = {k: re.sub(r"\$\{[^}]*\}", "filled-in", str(v)) for k, v in OURS[name]["environment"].items()}
    settings = load_settings(None, environment)
    assert str(settings.data_dir) == "/var/lib/corewatch"
    assert settings.broker.url is not None


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_service_is_shut_in(name: str) -> None:
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "data:/var/lib/corewatch" in service["volumes"]


def test_only_the_listener_is_open_to_the_network() -> None:
    for name, service in COMPOSE["services"].items():
        for port in service.get("ports", []):
            assert name == "listener" or port.startswith("127.0.0.1:"), (name, port)


def test_redis_has_a_password_and_keeps_its_queue() -> None:
    redis = COMPOSE["services"]["redis"]
    command = " ".join(redis["command"])
    assert all(word in command for word in ("--requirepass", "--appendonly yes", "noeviction"))
    assert "REDIS_PASSWORD:?" in redis["environment"]["REDIS_PASSWORD"]


def test_orthanc_is_for_trying_out_only() -> None:
    assert COMPOSE["services"]["orthanc"]["profiles"] == ["try"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda p: p.name)
def test_a_dockerfile_copies_what_there_is_and_runs_as_nobody_special(path: Path) -> None:
    lines = path.read_text().splitlines()
    copied = [line.split()[1] for line in lines if line.startswith("COPY") and "--from" not in line]
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
    assert any(line.startswith("USER ") and line != "USER root" for line in lines)
    assert any("--require-hashes" in line for line in lines)


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda p: p.name)
def test_requirements_are_pinned_and_hashed_and_name_no_index(path: Path) -> None:
    text = path.read_text()
    assert "://" not in text
    assert "--index" not in text
    blocks = re.split(r"\n(?=[a-z0-9])", text.strip(), flags=re.IGNORECASE)
    assert len(blocks) > 50
    for block in blocks:
        assert re.match(r"[A-Za-z0-9._-]+==\S+", block), block[:80]
        assert "--hash=sha256:" in block, block[:80]


def test_the_images_have_the_versions_that_were_tested() -> None:
    def versions(name: str) -> dict[str, str]:
        found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", (ROOT / "requirements" / name).read_text(), re.MULTILINE)
        return {package.lower(): version for package, version in found}

    tested = versions("locked.txt")
    for name in ("runtime.txt", "cuda.txt"):
        different = {p: (v, tested[p]) for p, v in versions(name).items() if p in tested and tested[p] != v}
        assert different == {}, name
