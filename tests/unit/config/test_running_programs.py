"""Running programs publish their settings and version; what was changed since is named by its key."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.checks.settings import running
from cli.main import corewatch
from config import running_programs as published
from config.loading import load_settings
from config.running_programs import NOT_READ, Outdated, outdated_programs, publish
from config.settings import Settings
from corewatch.clock import utc_now

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = {"listen": ["dicom_listener"], "watch": ["daemon"], "work": ["worker"], "flower": ["cli/flower_monitor.py"]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "corewatch.yaml"
    file.write_text(
        "data_dir: data\ndeliver: {email: {host: mail.example, from: a@b.example, to: [a@b.example], user: u, password: p}}\n"
    )
    (tmp_path / "data").mkdir()
    return file


def changed(file: Path, line: str) -> None:
    file.write_text(file.read_text() + line + "\n")


def test_a_changed_key_is_named_until_the_program_is_restarted(file: Path) -> None:
    settings = load_settings(file)
    publication = publish(settings, file, "work-detect")
    assert publication is not None
    assert outdated_programs(settings.data_dir) == []
    changed(file, "model: {name: other}")
    (old,) = outdated_programs(settings.data_dir)
    assert old.keys == ("model.name",)
    started = old.program.started_at.astimezone()
    assert old.sentence(utc_now()) == f"runs with settings of {started:%H:%M} (changed since: model.name)"
    assert [(c.level, c.subject) for c in running(settings)] == [("error", "work-detect")]
    publication.withdraw()
    again = publish(load_settings(file), file, "work-detect")
    assert again is not None
    assert [(c.level, c.subject) for c in running(settings)] == [("ok", "programs")]
    again.withdraw()
    assert list(running(settings)) == []


def test_secrets_are_compared_and_never_stored(file: Path) -> None:
    settings = load_settings(file)
    publication = publish(settings, file, "watch")
    assert publication is not None
    (path,) = (settings.data_dir / published.FOLDER).glob("*.json")
    assert "mail.example" not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    file.write_text(file.read_text().replace("password: p", "password: q"))
    assert outdated_programs(settings.data_dir)[0].keys == ("deliver.email.password",)
    publication.withdraw()


def test_sections_that_a_program_does_not_read_and_values_of_the_environment_do_not_count(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(file)
    listening = publish(settings, file, "listen")
    monkeypatch.setenv("COREWATCH__BROKER__URL", "redis://localhost:1")
    working = publish(load_settings(file), file, "work-prepare")
    monkeypatch.delenv("COREWATCH__BROKER__URL")
    changed(file, "retention: {failed_days: 3}")
    assert outdated_programs(settings.data_dir) == []
    for one in (listening, working):
        assert one is not None
        one.withdraw()


def test_an_installed_model_counts_as_a_change(file: Path) -> None:
    settings = load_settings(file)
    publication = publish(settings, file, "work-detect")
    assert publication is not None
    manifest = settings.models_dir / settings.model.name / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")
    assert outdated_programs(settings.data_dir)[0].keys == (f"model.installed.{settings.model.name}",)
    publication.withdraw()


def test_another_version_and_an_earlier_day_are_said(file: Path) -> None:
    settings = load_settings(file)
    publication = publish(settings, file, "watch")
    assert publication is not None
    (program,) = published.running_programs(settings.data_dir)
    publication.withdraw()
    old = Outdated(replace(program, version="0.1", started_at=program.started_at - timedelta(days=2)), ("a.b", "a.c", "a.d", "a.e"))
    words = old.sentence(utc_now())
    assert words.startswith("runs version 0.1, and ")
    assert f"settings of {old.program.started_at.astimezone():%Y-%m-%d %H:%M} (changed since: a.b, a.c, a.d and 1 more)" in words


def test_a_program_that_was_killed_is_not_running(file: Path) -> None:
    script = (
        "import os, pathlib; from config.loading import load_settings; from config.running_programs import publish;"
        f"f = pathlib.Path({str(file)!r}); p = publish(load_settings(f), f, 'watch'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
    data = load_settings(file).data_dir
    assert list((data / published.FOLDER).glob("*.json"))
    assert published.running_programs(data) == []


def test_a_settings_file_that_cannot_be_loaded_is_left_to_config_check(file: Path) -> None:
    settings = load_settings(file)
    publication = publish(settings, file, "watch")
    assert publication is not None
    file.write_text("nonsense: 1\n")
    assert outdated_programs(settings.data_dir) == []
    publication.withdraw()


def test_reload_without_a_supervisor_names_what_to_restart(file: Path) -> None:
    settings = load_settings(file)
    publication = publish(settings, file, "watch")
    assert publication is not None
    invoke = CliRunner().invoke
    assert "nothing to do" in invoke(corewatch, ["reload", "--config", str(file)]).output
    changed(file, "series: {retry_wait_s: 60}")
    answer = invoke(corewatch, ["reload", "--config", str(file)])
    assert answer.exit_code == 4
    assert "watch runs with settings of" in answer.output
    assert "systemd unit or container" in answer.output
    publication.withdraw()


@pytest.mark.parametrize("program", PACKAGES)
def test_no_program_reads_a_section_that_is_said_to_be_unread(program: str) -> None:
    read: set[str] = set()
    for place in PACKAGES[program]:
        path = ROOT / place
        for source in path.rglob("*.py") if path.is_dir() else [path]:
            for node in ast.walk(ast.parse(source.read_text())):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
                    name = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
                    if name in {"settings", "_settings"}:
                        read.add(node.attr)
    assert not read & NOT_READ[program] & set(Settings.model_fields)
