"""The data folder: broker URL, generated password, lock of `corewatch up`, permissions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cli.data_folder import broker_url, flower_password, make_private, password_file
from config.loading import load_settings
from config.settings import Settings
from corewatch.errors import ConfigurationError

PRINT_UMASK = "import os, sys, cli.main as m; m.corewatch = lambda **_: print(oct(os.umask(0))); m.main()"


def settings_in(folder: Path, **sections: object) -> Settings:
    return Settings.model_validate({"data_dir": folder, **sections})


def test_the_configured_broker_comes_first(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "broker.url").write_text("redis://private/0\n")
    assert broker_url(settings_in(tmp_path, broker={"url": "redis://ours/0"})) == "redis://ours/0"
    assert broker_url(settings_in(tmp_path)) == "redis://private/0"


def test_without_a_broker_the_message_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"set broker\.url .* or start `corewatch up`"):
        broker_url(settings_in(tmp_path))


def test_limits_come_from_the_settings(tmp_path: Path) -> None:
    work = {"prepare_limit_s": 11, "detect_limit_s": 12, "deliver_limit_s": 13}
    made = settings_in(tmp_path, work=work).work.limits
    assert (made.prepare_s, made.detect_s, made.deliver_s) == (11, 12, 13)


def test_a_password_is_made_once_and_kept_private(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "data")
    password = flower_password(settings)
    assert len(password) >= 20
    assert flower_password(settings) == password
    file = password_file(settings.data_dir)
    assert file.read_text().strip() == password
    assert file.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in settings.data_dir.iterdir()] == [file.name]


def test_a_configured_password_is_written_nowhere(tmp_path: Path) -> None:
    assert flower_password(settings_in(tmp_path, flower={"password": "chosen"})) == "chosen"
    assert list(tmp_path.iterdir()) == []


def test_made_secrets_survive_the_environment(tmp_path: Path) -> None:
    password, url = flower_password(settings_in(tmp_path)), "redis://:p-w_d@127.0.0.1:6379/0"
    settings = load_settings(None, {"COREWATCH__FLOWER__PASSWORD": password, "COREWATCH__BROKER__URL": url})
    assert settings.flower.password is not None
    assert settings.flower.password.get_secret_value() == password
    assert broker_url(settings) == url


@pytest.mark.parametrize(("before", "after"), [(0o000, "0o27"), (0o022, "0o27"), (0o077, "0o77")])
def test_every_command_begins_with_a_strict_umask(before: int, after: str) -> None:
    done = subprocess.run([sys.executable, "-c", PRINT_UMASK], umask=before, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == after


@pytest.mark.parametrize(("before", "after"), [(0o755, 0o750), (0o777, 0o750), (0o700, 0o700), (0o2775, 0o2750)])
def test_an_open_data_folder_is_closed(tmp_path: Path, before: int, after: int) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(before)
    make_private(folder)
    assert folder.stat().st_mode & 0o7777 == after


def test_a_missing_data_folder_is_made_closed(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "data"
    make_private(folder)
    assert folder.stat().st_mode & 0o077 == 0


def test_a_folder_of_someone_else_is_left_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o755)
    monkeypatch.setattr("os.geteuid", lambda: tmp_path.stat().st_uid + 1)
    make_private(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    assert "open to other users" in caplog.text
