"""Doctor's checks, each with the fault that it is there for."""

from __future__ import annotations

import json
import socket
from collections import namedtuple
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import create_engine

from cli import checks
from cli.checks import Check, Level, services, system
from cli.demonstration.stand_ins import PACS_AE_TITLE, PacsStandIn, free_port
from cli.main import corewatch
from config.settings import Settings
from ledger.store import Ledger
from tests.support import layouts

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
Usage = namedtuple("Usage", "total used free")


def settings_in(folder: Path, **sections: Any) -> Settings:
    quiet = {
        "data_dir": folder / "data",
        "listener": {"port": 0, "host": "127.0.0.1"},
        "watch": {"folders": []},
        "deliver": {"folder": {"path": folder / "results"}},
        "flower": {"port": 0},
    }
    return Settings.model_validate(quiet | sections)


def level(found: Check | Iterator[Check] | list[Check], subject: str = "") -> Level:
    """The worst level, of one subject or of all."""
    several = [found] if isinstance(found, Check) else [c for c in found if c.subject == subject or not subject]
    assert all(c.remedy for c in several if c.level is not Level.OK), "what is wrong needs a remedy"
    return max((c.level for c in several), key=list(Level).index)


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port whose owner accepts connections and says nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


class TestFolders:
    def test_a_data_folder_that_will_be_made_is_fine_and_is_not_made(self, tmp_path: Path) -> None:
        assert level(system.data_folder(settings_in(tmp_path))) is Level.OK
        assert not (tmp_path / "data").exists()

    def test_a_file_in_its_place_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "data").write_text("")
        assert level(system.data_folder(settings_in(tmp_path))) is Level.ERROR
        assert level(system.data_folder(settings_in(tmp_path, data_dir=tmp_path / "data" / "below"))) is Level.ERROR

    def test_one_that_others_can_read_is_a_warning(self, tmp_path: Path) -> None:
        folder = tmp_path / "data"
        folder.mkdir()
        folder.chmod(0o755)
        assert level(system.data_folder(settings_in(tmp_path))) is Level.WARNING
        folder.chmod(0o750)
        assert level(system.data_folder(settings_in(tmp_path))) is Level.OK
        assert list(folder.iterdir()) == []

    def test_one_that_cannot_be_written_is_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(**_: object) -> None:
            raise PermissionError(13, "Permission denied")

        (tmp_path / "data").mkdir()
        monkeypatch.setattr("cli.checks.system.tempfile.TemporaryFile", refuse)
        assert level(system.data_folder(settings_in(tmp_path))) is Level.ERROR

    @pytest.mark.parametrize(("free_gib", "expected"), [(1, Level.ERROR), (2, Level.ERROR), (20, Level.WARNING), (21, Level.OK)])
    def test_free_space_against_reserve_and_retention(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_gib: int, expected: Level
    ) -> None:
        monkeypatch.setattr("foundation.disk.shutil.disk_usage", lambda _: Usage(0, 0, free_gib * 1024**3))
        assert level(system.free_space(settings_in(tmp_path))) is expected

    def test_every_watched_folder_is_looked_at(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        folders = [{"path": tmp_path}, {"path": tmp_path / "new"}, {"path": tmp_path / "file"}]
        found = system.watch_folders(settings_in(tmp_path, watch={"folders": folders}))
        assert [c.level for c in found] == [Level.OK, Level.OK, Level.ERROR]

    @pytest.mark.parametrize(
        ("watches", "instances", "expected"),
        [("100", "128", Level.WARNING), ("100000", "2", Level.WARNING), ("100000", "128", Level.OK)],
    )
    def test_inotify_limits(self, tmp_path: Path, watches: str, instances: str, expected: Level) -> None:
        (tmp_path / "max_user_watches").write_text(watches + "\n")
        (tmp_path / "max_user_instances").write_text(instances + "\n")
        assert level(system.inotify_limits(settings_in(tmp_path), tmp_path)) is expected
        polling = settings_in(tmp_path, watch={"folders": [], "polling": "always"})
        assert level(system.inotify_limits(polling, tmp_path)) is Level.OK
        assert level(system.inotify_limits(settings_in(tmp_path), tmp_path / "absent")) is Level.OK


class TestClock:
    def test_before_the_release_is_an_error(self) -> None:
        assert level(system.clock(datetime(1970, 1, 1, tzinfo=UTC))) is Level.ERROR

    def test_files_from_the_future_are_an_error(self) -> None:
        assert level(system.clock(NOW, NOW + timedelta(hours=1))) is Level.ERROR
        assert level(system.clock(NOW, NOW - timedelta(days=9))) is Level.OK

    @pytest.mark.parametrize(("kept", "expected"), [(True, Level.OK), (None, Level.OK), (False, Level.WARNING)])
    def test_a_clock_that_nobody_keeps_is_a_warning(self, kept: bool | None, expected: Level) -> None:
        assert level(system.clock(NOW, None, kept)) is expected

    def test_the_newest_file_counts(self, tmp_path: Path) -> None:
        assert system.newest_file_time(tmp_path / "absent") is None
        assert system.newest_file_time(tmp_path) is None
        (tmp_path / "a").write_text("")
        assert system.newest_file_time(tmp_path) == datetime.fromtimestamp((tmp_path / "a").stat().st_mtime, UTC)


class TestPackages:
    def test_ours_are_ours(self) -> None:
        assert level(system.import_names()) is Level.OK

    def test_another_distribution_in_our_place_is_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "strangedaemon.py").write_text("")
        monkeypatch.syspath_prepend(str(tmp_path))
        found = system.import_names(["corewatch", "strangedaemon", "neverheardof"])
        assert level(found) is Level.ERROR
        assert "strangedaemon is taken from" in found.found
        assert "neverheardof is not there" in found.found


class TestListener:
    def test_a_free_port_is_fine(self, tmp_path: Path) -> None:
        settings = settings_in(
            tmp_path, listener={"port": free_port(), "host": "127.0.0.1", "peers": [{"ae_title": "A", "host": "b"}]}
        )
        assert level(checks.listener(settings)) is Level.OK

    def test_a_listener_that_answers_is_fine(self, tmp_path: Path) -> None:
        with PacsStandIn(tmp_path / "pacs") as pacs:
            settings = settings_in(tmp_path, listener={"port": pacs.port, "host": "127.0.0.1", "ae_title": PACS_AE_TITLE})
            assert level(checks.listener(settings), "listener") is Level.OK

    def test_another_program_on_the_port_is_an_error(
        self, tmp_path: Path, taken_port: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(services, "_LIMIT_S", 0.3)
        settings = settings_in(tmp_path, listener={"port": taken_port, "host": "127.0.0.1"})
        assert level(checks.listener(settings), "listener") is Level.ERROR

    def test_nobody_else_may_send_is_a_warning(self, tmp_path: Path) -> None:
        assert level(checks.listener(settings_in(tmp_path)), "senders") is Level.WARNING

    def test_missing_certificates_are_an_error(self, tmp_path: Path) -> None:
        tls = {"certificate": tmp_path / "c", "key": tmp_path / "k", "authority": tmp_path / "a"}
        assert level(checks.listener(settings_in(tmp_path, listener={"port": 0, "tls": tls})), "listener") is Level.ERROR


class TestQueue:
    def test_a_private_redis_that_is_not_started_yet_is_fine(self, tmp_path: Path) -> None:
        assert level(checks.broker(settings_in(tmp_path))) is Level.OK

    def test_a_private_redis_that_died_is_a_warning(self, tmp_path: Path) -> None:
        (tmp_path / "data" / "redis").mkdir(parents=True)
        (tmp_path / "data" / "redis" / "broker.url").write_text(f"redis://:x@127.0.0.1:{free_port()}/0")
        assert level(checks.broker(settings_in(tmp_path))) is Level.WARNING

    def test_a_configured_redis_that_does_not_answer_is_an_error(self, tmp_path: Path) -> None:
        url = f"redis://:secret-word@127.0.0.1:{free_port()}/0"
        (found,) = checks.broker(settings_in(tmp_path, broker={"url": url}))
        assert level(found) is Level.ERROR
        assert "secret-word" not in str(found)

    def test_another_program_on_the_monitors_port_is_an_error(
        self, tmp_path: Path, taken_port: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(services, "_LIMIT_S", 0.3)
        assert level(checks.monitor(settings_in(tmp_path, flower={"port": taken_port}))) is Level.ERROR
        assert level(checks.monitor(settings_in(tmp_path, flower={"port": free_port()}))) is Level.OK


class TestLedger:
    def test_none_yet_is_fine_and_none_is_made(self, tmp_path: Path) -> None:
        assert level(checks.ledger(settings_in(tmp_path))) is Level.OK
        assert not (tmp_path / "data").exists()

    def test_a_file_that_is_no_database_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "ledger.sqlite").write_text("this is not a database, and long enough to be looked at as one\n" * 20)
        assert level(checks.ledger(settings_in(tmp_path))) is Level.ERROR

    def test_a_ledger_of_an_earlier_version_is_named_and_not_migrated(self, tmp_path: Path) -> None:
        settings = settings_in(tmp_path)
        (tmp_path / "data").mkdir()
        layouts.create(settings.database_url, "5_letters")
        before = (tmp_path / "data" / "ledger.sqlite").read_bytes()
        for _ in range(2):
            (found,) = checks.ledger(settings)
            assert level(found) is Level.WARNING
            assert "layout 0004" in found.found
        assert (tmp_path / "data" / "ledger.sqlite").stat().st_size == len(before)

    def test_tables_that_do_not_match_are_named_one_by_one(self, tmp_path: Path) -> None:
        settings = settings_in(tmp_path)
        Ledger(settings.database_url).close()
        with create_engine(settings.database_url).begin() as connection:
            connection.exec_driver_sql("DROP TABLE mail_places")
            connection.exec_driver_sql("DROP INDEX outbox_waiting")
        found = list(checks.ledger(settings))
        assert level(found) is Level.ERROR
        assert [check.found for check in found] == [
            "mail_places: the table is missing",
            "outbox: index outbox_waiting is missing",
        ]

    def test_a_ledger_of_a_later_version_is_an_error(self, tmp_path: Path) -> None:
        settings = settings_in(tmp_path)
        Ledger(settings.database_url).close()
        with create_engine(settings.database_url).begin() as connection:
            connection.exec_driver_sql("UPDATE schema_version SET version = 99")
        (found,) = checks.ledger(settings)
        assert level(found) is Level.ERROR
        assert "layout 99" in found.found

    def test_an_unreachable_server_is_an_error_without_its_password(self, tmp_path: Path) -> None:
        url = f"postgresql+pg8000://u:secret-word@127.0.0.1:{free_port()}/db"
        (found,) = checks.ledger(settings_in(tmp_path, database={"url": url}))
        assert level(found) is Level.ERROR
        assert "secret-word" not in str(found)


class TestModelAndDestinations:
    def test_a_model_that_is_not_there_is_an_error(self, tmp_path: Path) -> None:
        assert level(checks.model(settings_in(tmp_path, model={"name": "never-trained"}))) is Level.ERROR

    def test_a_missing_model_of_a_rule_is_an_error_beside_the_one_that_is_there(self, tmp_path: Path) -> None:
        rules = [{"name": "a", "model": "lvo"}, {"name": "b"}, {"name": "c", "include": False, "text": "x", "model": "unused"}]
        found = list(checks.model(settings_in(tmp_path, series={"rules": rules})))
        assert [(c.subject, c.level) for c in found] == [("model", Level.WARNING), ("model of a rule", Level.ERROR)]
        assert "there is no model 'lvo'" in found[1].found

    def test_the_demonstration_model_in_service_is_a_warning(self, tmp_path: Path) -> None:
        assert level(checks.model(settings_in(tmp_path, model={"name": "phantom-demo"}))) is Level.WARNING

    def test_a_results_folder_that_can_be_written(self, tmp_path: Path) -> None:
        assert level(checks.destinations(settings_in(tmp_path)), "to folder") is Level.OK

    def test_a_results_folder_that_cannot(self, tmp_path: Path) -> None:
        (tmp_path / "results").write_text("")
        assert level(checks.destinations(settings_in(tmp_path)), "to folder") is Level.ERROR

    def test_no_destination_at_all_is_an_error(self, tmp_path: Path) -> None:
        assert level(checks.destinations(settings_in(tmp_path, deliver={"folder": None}))) is Level.ERROR

    def test_a_pacs_that_answers_and_one_that_does_not(self, tmp_path: Path) -> None:
        with PacsStandIn(tmp_path / "pacs") as pacs:
            known = {"name": "up", "ae_title": PACS_AE_TITLE, "host": "127.0.0.1", "port": pacs.port}
            down = known | {"name": "down", "port": free_port()}
            found = list(checks.destinations(settings_in(tmp_path, deliver={"folder": None, "pacs": [known, down]})))
        assert level(found, "to up") is Level.OK
        assert level(found, "to down") is Level.ERROR

    def test_a_source_that_is_away_is_an_error(self, tmp_path: Path) -> None:
        source = {"name": "archive", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": free_port()}
        [found] = checks.sources(settings_in(tmp_path, sources=[source]))
        assert (found.subject, found.level) == ("from archive", Level.ERROR)
        assert "check host, port, firewall" in found.remedy

    def test_a_pacs_that_stores_and_does_not_commit(self, tmp_path: Path) -> None:
        with PacsStandIn(tmp_path / "pacs") as pacs:
            to = {"name": "up", "ae_title": PACS_AE_TITLE, "host": "127.0.0.1", "port": pacs.port, "commitment": True}
            [found] = [c for c in checks.destinations(settings_in(tmp_path, deliver={"pacs": [to]})) if c.subject == "to up"]
        assert found.level is Level.ERROR
        assert "Storage Commitment Push Model" in found.found

    def test_who_may_not_bring_its_answer_is_a_warning(self, tmp_path: Path) -> None:
        to = {"name": "main", "ae_title": "PACS", "host": "10.0.0.5", "port": 104, "commitment": True}
        [found] = checks.commitment(settings_in(tmp_path, deliver={"pacs": [to]}))
        assert found.level is Level.WARNING
        assert "{ae_title: PACS, host: 10.0.0.5}" in found.remedy
        listener = {"port": 0, "peers": [{"ae_title": "PACS", "host": "10.0.0.5"}]}
        assert list(checks.commitment(settings_in(tmp_path, listener=listener, deliver={"pacs": [to]}))) == []

    def test_a_mail_server_that_is_down_is_an_error(self, tmp_path: Path) -> None:
        email = {"host": "127.0.0.1", "port": free_port(), "security": "none", "from": "a@b.example", "to": ["c@d.example"]}
        found = list(checks.destinations(settings_in(tmp_path, deliver={"folder": None, "email": email})))
        assert level(found, "to email") is Level.ERROR
        assert [c.subject for c in found] == ["to email"], "one mail server is one line"


class TestDevice:
    """What TensorFlow says is scripted here; `test_worker_trial` asks it."""

    @pytest.fixture
    def trial(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
        problems: dict[str, str | None] = {"cpu": None, "gpu": None}
        monkeypatch.setattr("worker.models.device_probe.probe", lambda device, _environment: problems[device])
        monkeypatch.setattr("cli.checks.analysis.gpus", lambda: 1)
        return problems

    def check(self, folder: Path, **model: Any) -> Check:
        [found] = checks.device(settings_in(folder, model=model))
        return found

    def test_a_processor_that_tensorflow_does_not_suit_is_an_error(self, tmp_path: Path, trial: dict[str, str | None]) -> None:
        assert level(self.check(tmp_path)) is Level.OK
        trial["cpu"] = "the process that loads a model is ended by SIGILL"
        assert level(self.check(tmp_path)) is Level.ERROR
        assert "SIGILL" in self.check(tmp_path).found

    def test_a_gpu_counts_when_tensorflow_sees_it_and_not_only_the_driver(
        self, tmp_path: Path, trial: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert self.check(tmp_path, device="gpu").found == "1 GPU"
        trial["gpu"] = "TensorFlow finds no GPU"
        found = self.check(tmp_path, device="gpu")
        assert (found.level, found.found) == (Level.ERROR, "TensorFlow finds no GPU")
        assert "model.device: cpu" in found.remedy
        monkeypatch.setattr("cli.checks.analysis.gpus", lambda: 0)
        assert self.check(tmp_path, device="gpu").found == "the driver shows no GPU"

    def test_a_fallback_is_never_silent(self, tmp_path: Path, trial: dict[str, str | None]) -> None:
        trial["gpu"] = "TensorFlow finds no GPU"
        found = self.check(tmp_path, device="gpu", cpu_fallback=True)
        assert level(found) is Level.WARNING
        assert "computes on the processor" in found.found
        trial["cpu"] = "the process that loads a model is ended by SIGILL"
        assert level(self.check(tmp_path, device="gpu", cpu_fallback=True)) is Level.ERROR

    def test_where_no_worker_runs_none_is_spoken_of(self, tmp_path: Path) -> None:
        assert list(checks.workers(settings_in(tmp_path))) == []
        assert list(checks.workers(settings_in(tmp_path, broker={"url": f"redis://127.0.0.1:{free_port()}/0"}))) == []


def test_a_check_that_breaks_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.models.device_probe.probe", lambda *_: None)

    def fail(_: Settings) -> Iterator[Check]:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(checks, "broker", fail)
    found = {c.subject: c for c in checks.all_checks(settings_in(tmp_path), NOW)}
    assert found["broker"].level is Level.ERROR
    assert "ledger" in found


def test_doctor_reports_everything_and_exits_with_4_on_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("worker.models.device_probe.probe", lambda *_: None)
    (tmp_path / "corewatch.yaml").write_text(
        f"listener: {{port: {free_port()}}}\nflower: {{port: {free_port()}}}\nmodel: {{name: never-trained}}\n"
    )
    plain = CliRunner().invoke(corewatch, ["doctor"])
    assert plain.exit_code == 4
    assert "never-trained" in plain.output
    assert "-> " in plain.output
    answer = CliRunner().invoke(corewatch, ["doctor", "--json"])
    found = json.loads(answer.output)
    assert {"packages", "clock", "data folder", "broker", "model", "to folder"} <= {c["subject"] for c in found}
    assert [c["subject"] for c in found if c["level"] == "error"] == ["model"]
    assert not (tmp_path / "data").exists()


def test_a_message_of_ours_splits_into_problem_and_remedy(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    found = [c for c in checks.destinations(settings_in(tmp_path)) if c.subject == "to folder"]
    assert [c.remedy for c in found] == ["check disk and permissions"]
