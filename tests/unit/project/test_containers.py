"""docker-compose.yml, the Dockerfiles and the locked requirements: what can be known without a Docker engine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from cli.main import corewatch
from config import load_settings
from config.settings import Settings
from jobs.names import QUEUES

ROOT = Path(__file__).resolve().parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if service.get("image") == "corewatch"}
SETTINGS = sorted((ROOT / "docker").glob("*.yaml"))
DOCKERFILES = sorted((ROOT / "docker").glob("Dockerfile*"))
REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))


def test_every_program_is_a_service() -> None:
    commands = sorted(" ".join(service["command"]) for service in OURS.values())
    assert commands == sorted(["listen", "watch", "flower", "portal", *(f"work --queues {q}" for q in QUEUES)])


@pytest.mark.parametrize("name", sorted(OURS))
def test_the_command_exists(name: str) -> None:
    done = CliRunner().invoke(corewatch, [OURS[name]["command"][0], "--help"])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("name", sorted(OURS))
def test_the_environment_is_made_of_known_settings(name: str) -> None:
    settings = load_settings(None, environment_of(OURS[name]))
    assert str(settings.data_dir) == "/var/lib/corewatch"
    assert settings.broker.url is not None


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_service_is_shut_in(name: str) -> None:
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "data:/var/lib/corewatch" in service["volumes"]
    assert all(mount["bind"] == {"create_host_path": False} for mount in service["volumes"] if isinstance(mount, dict))


def written_by(settings: Settings) -> list[Path]:
    """Every folder that the programs write to."""
    folder = settings.deliver.folder
    return [settings.data_dir, *(watched.path for watched in settings.watch.folders), *([folder.path] if folder else [])]


def writable_in(service: dict[str, Any]) -> list[Path]:
    mounts = [m if isinstance(m, dict) else dict(zip(("source", "target"), m.split(":"), strict=True)) for m in service["volumes"]]
    return [Path(m["target"]) for m in mounts if not m.get("read_only")]


def environment_of(service: dict[str, Any]) -> dict[str, str]:
    return {k: re.sub(r"\$\{[^}]*\}", "filled-in", str(v)) for k, v in service["environment"].items()}


@pytest.mark.parametrize("file", SETTINGS, ids=lambda p: p.name)
@pytest.mark.parametrize("name", sorted(OURS))
def test_what_is_written_lies_on_a_volume(file: Path, name: str) -> None:
    volumes = writable_in(OURS[name])
    for folder in written_by(load_settings(file, environment_of(OURS[name]))):
        assert any(folder.is_relative_to(volume) for volume in volumes), folder


@pytest.mark.parametrize("file", SETTINGS, ids=lambda p: p.name)
def test_someone_other_than_the_container_itself_may_send(file: Path) -> None:
    settings = load_settings(file, environment_of(OURS["listener"]))
    assert settings.listener.peers
    assert f"{settings.listener.port}:{settings.listener.port}" in OURS["listener"]["ports"]


def test_the_trial_and_its_orthanc_know_each_other() -> None:
    settings = load_settings(ROOT / "docker" / "corewatch.try.yaml", environment_of(OURS["deliver"]))
    environment = COMPOSE["services"]["orthanc"]["environment"]
    [peer], [pacs] = settings.listener.peers, settings.deliver.pacs
    assert peer.ae_title == pacs.ae_title == environment["ORTHANC__DICOM_AET"]
    assert peer.host == pacs.host == "orthanc"
    assert json.loads(environment["ORTHANC__DICOM_MODALITIES"]) == {
        "corewatch": [settings.listener.ae_title, "listener", settings.listener.port]
    }


def test_the_settings_that_the_header_names_exist() -> None:
    header = (ROOT / "docker-compose.yml").read_text().split("\nname:")[0]
    named = set(re.findall(r"docker/[\w.]+\.yaml", header))
    assert named == {f"docker/{file.name}" for file in SETTINGS}


def test_the_folders_are_made_for_the_user_of_the_image() -> None:
    header = (ROOT / "docker-compose.yml").read_text().split("\nname:")[0]
    owner = re.search(r"install -d -o (\d+) -g (\d+)", header)
    assert owner is not None
    for path in DOCKERFILES:
        assert re.search(rf"groupadd --gid {owner[2]} .*useradd --uid {owner[1]} ", path.read_text()), path.name


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
