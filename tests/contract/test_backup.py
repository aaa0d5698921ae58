"""Backup and restore of ledger, images, cases and keys: while something writes, on another host, onto another kind of database."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select

from cli.backup_folder import LEDGER_FILE, MANIFEST, back_up, restore
from cli.command_group import ExitCode
from cli.main import corewatch
from config.settings import DatabaseSettings, Settings
from corewatch.errors import ConfigurationError, CorewatchError
from corewatch.states import CaseState
from foundation.durable import PARTIAL_SUFFIX
from foundation.keys import installation_key
from ledger import tables
from ledger.database import Database
from ledger.store import Ledger
from tests.support.ledger import T0, delivering, queued, received
from tests.support.postgres import Postgres

CLOSED = 0o700


def settings_in(folder: Path, url: str | None) -> Settings:
    return Settings.model_validate({"data_dir": folder, "database": DatabaseSettings.model_validate({"url": url})})


@pytest.fixture
def source(url: str, tmp_path: Path) -> Settings:
    """An installation with cases in several states, and files beside them."""
    data = tmp_path / "one"
    settings = settings_in(data, None if url.startswith("sqlite") else url)
    ledger = Ledger(settings.database_url, lambda: T0)
    received(ledger, "1.1")
    queued(ledger, "1.2")
    delivering(ledger, "1.3", main=None, email="no address")
    ledger.close()
    (data / "received" / "20261121-a").mkdir(parents=True)
    (data / "received" / "20261121-a" / "slice.dcm").write_bytes(b"slice" * 1000)
    (data / "received" / "20261121-a" / f"half.dcm{PARTIAL_SUFFIX}").write_bytes(b"half")
    (data / "cases" / "abc").mkdir(parents=True)
    (data / "cases" / "abc" / "result.json").write_text("{}")
    (data / "redis").mkdir()
    (data / "redis" / "broker.url").write_text("redis://:secret@127.0.0.1:1/0")
    (data / "up.lock").write_text("1\n")
    installation_key(data, "links")
    return settings


def rows(url: str) -> dict[str, list[object]]:
    database = Database(url)
    try:
        with database.reading() as connection:
            return {
                table.name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
                for table in tables.metadata.sorted_tables
            }
    finally:
        database.close()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """An installation on another host, of either kind."""
    url = None
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        url = server.new_database(f"restored{abs(hash(tmp_path))}")
    return settings_in(tmp_path / "two", url)


def test_every_row_file_and_key_is_restored_on_another_host(source: Settings, other: Settings, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    report = back_up(source, None, backup, T0)
    assert backup.stat().st_mode & 0o777 == CLOSED
    restored = restore(other, backup)
    assert restored.files == report.files
    assert restored.cases == 3
    assert rows(other.database_url) == rows(source.database_url)
    kept = {p.relative_to(source.data_dir) for p in source.data_dir.rglob("*") if p.is_file() and "ledger.sqlite" not in p.name}
    left_out = {Path("redis/broker.url"), Path("up.lock"), Path("received/20261121-a/half.dcm" + PARTIAL_SUFFIX)}
    there = {p.relative_to(other.data_dir) for p in other.data_dir.rglob("*") if p.is_file() and "ledger.sqlite" not in p.name}
    assert there == kept - left_out
    for path in there:
        assert (other.data_dir / path).read_bytes() == (source.data_dir / path).read_bytes()
        assert (other.data_dir / path).stat().st_mode == (source.data_dir / path).stat().st_mode
    assert installation_key(other.data_dir, "links") == installation_key(source.data_dir, "links")

    ledger = Ledger(other.database_url)  # it goes on: new rows get numbers after the restored ones
    case_id = queued(ledger, "1.9")
    assert ledger.cases.advance(case_id, CaseState.QUEUED, CaseState.PREPARED)
    ledger.close()


@pytest.fixture
def writer(source: Settings) -> Iterator[None]:
    """Opens and moves cases until the test ends."""
    stop, problems = threading.Event(), []

    def write() -> None:
        ledger = Ledger(source.database_url)
        number = 0
        try:
            while not stop.is_set():
                number += 1
                queued(ledger, f"2.{number}")
        except Exception as error:
            problems.append(error)
        finally:
            ledger.close()

    thread = threading.Thread(target=write)
    thread.start()
    yield
    stop.set()
    thread.join(60)
    assert not problems


@pytest.mark.usefixtures("writer")
def test_a_backup_while_programs_write_is_of_one_moment(source: Settings, tmp_path: Path) -> None:
    for number in range(3):
        backup, other = tmp_path / f"backup{number}", settings_in(tmp_path / f"two{number}", None)
        back_up(source, None, backup, T0)
        restore(other, backup)
        found = rows(other.database_url)
        queued_cases = {row[0] for row in found["cases"] if CaseState.QUEUED in row}  # type: ignore[index,operator]
        assert {row[2] for row in found["outbox"]} >= queued_cases  # type: ignore[index]


def test_nothing_is_overwritten(source: Settings, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    back_up(source, None, backup, T0)
    before = sorted(backup.rglob("*"))
    with pytest.raises(ConfigurationError, match="is not empty"):
        back_up(source, None, backup, T0)
    with pytest.raises(ConfigurationError, match="already holds"):
        restore(source, backup)
    with pytest.raises(ConfigurationError, match="lies in the data folder"):
        back_up(source, None, source.data_dir / "backup", T0)
    assert sorted(backup.rglob("*")) == before
    only_database = settings_in(tmp_path / "three", source.database_url)
    with pytest.raises(ConfigurationError, match=r"already holds a ledger|exists already"):
        restore(only_database, backup)
    assert not any((tmp_path / "three").rglob("*")) if (tmp_path / "three").exists() else True


@pytest.mark.parametrize("victim", ["data/cases/abc/result.json", LEDGER_FILE])
def test_a_damaged_backup_restores_nothing(source: Settings, tmp_path: Path, victim: str) -> None:
    backup, other = tmp_path / "backup", settings_in(tmp_path / "two", None)
    back_up(source, None, backup, T0)
    content = bytearray((backup / victim).read_bytes())
    content[-1] ^= 1
    (backup / victim).write_bytes(content)
    with pytest.raises(CorewatchError, match="damaged"):
        restore(other, backup)
    assert not any(other.data_dir.rglob("*"))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(corewatch, list(arguments))


def test_exit_codes_of_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "corewatch.yaml"
    file.write_text("data_dir: ./data\n")
    config = ("--config", str(file))
    assert run("backup", str(tmp_path / "b"), *config).exit_code == ExitCode.USAGE  # there is no ledger
    assert not (tmp_path / "b").exists()
    Ledger(f"sqlite:///{tmp_path / 'data' / 'ledger.sqlite'}").close()
    done = run("backup", str(tmp_path / "b"), "--json", *config)
    assert done.exit_code == ExitCode.DONE
    assert json.loads(done.output)["files"] == 2  # ledger and settings
    assert run("restore", str(tmp_path / "b"), *config).exit_code == ExitCode.USAGE
    monkeypatch.setenv("COREWATCH__DATA_DIR", str(tmp_path / "new"))
    assert run("restore", str(tmp_path / "b"), *config).exit_code == ExitCode.DONE
    (tmp_path / "b" / MANIFEST).unlink()
    unfinished = run("restore", str(tmp_path / "b"), *config)
    assert unfinished.exit_code == ExitCode.USAGE
    assert "no complete backup" in unfinished.output


def test_a_full_disk_leaves_no_half_backup(source: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import cli.backup_folder as module

    def full(*_: object) -> object:
        raise OSError(28, "No space left on device", "x")

    monkeypatch.setattr(module, "_copy", full)
    with pytest.raises(CorewatchError, match="No space left"):
        back_up(source, None, tmp_path / "backup", T0)
    assert not (tmp_path / "backup").exists()
