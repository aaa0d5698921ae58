"""Where the broker is, the monitor's password, one `up` per data folder, and how children are started."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cli.addresses import addresses_of, text_of
from cli.broker import broker_url
from cli.children import own_command, own_environment, programs
from cli.credentials import flower_password, password_file
from cli.lock import sole_user
from cli.readiness import listens, missing
from config.loading import load_settings
from config.settings import Settings
from corewatch import RESEARCH_LABEL
from corewatch.errors import ConfigurationError


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


def test_a_data_folder_has_one_user_at_a_time(tmp_path: Path) -> None:
    with sole_user(tmp_path), pytest.raises(ConfigurationError, match=f"process {os.getpid()}"), sole_user(tmp_path):
        pass
    with sole_user(tmp_path):
        pass


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    script = (
        "import os, sys, pathlib; from cli.lock import sole_user; sole_user(pathlib.Path(sys.argv[1])).__enter__(); os._exit(9)"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], timeout=30, check=False, env=own_environment({}))
    assert ended.returncode == 9
    with sole_user(tmp_path):
        pass


def test_made_secrets_survive_the_environment(tmp_path: Path) -> None:
    password, url = flower_password(settings_in(tmp_path)), "redis://:p-w_d@127.0.0.1:6379/0"
    settings = load_settings(None, {"COREWATCH__FLOWER__PASSWORD": password, "COREWATCH__BROKER__URL": url})
    assert settings.flower.password is not None
    assert settings.flower.password.get_secret_value() == password
    assert broker_url(settings) == url


def test_children_get_no_secret_on_their_command_line(tmp_path: Path) -> None:
    command = own_command(tmp_path / "c.yaml", ["work", "--queues", "detect"])
    assert command == [sys.executable, "-P", "-m", "cli", "--config", str(tmp_path / "c.yaml"), "work", "--queues", "detect"]


def test_the_listener_stops_first_and_workers_together() -> None:
    order = {program.name: program.stop_order for program in programs(None, {})}
    assert order["listen"] < order["watch"] < order["work-prepare"] < order["flower"]
    assert len({order[f"work-{queue}"] for queue in ("prepare", "detect", "deliver")}) == 1


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    pids: dict[str, int | None] = {"listen": None, "watch": 1, "work-detect": 2, "work-deliver": 3}
    assert missing(pids, {}, {}, {"detect"}) == ["listen", "work-deliver"]
    assert missing({"flower": os.getpid()}, {"flower": 1}, {}, ()) == ["flower"]
    lock = tmp_path / "daemon.lock"
    assert missing({"watch": 17}, {}, {"watch": lock}, ()) == ["watch"]
    lock.write_text("16\n")
    assert missing({"watch": 17}, {}, {"watch": lock}, ()) == ["watch"]
    lock.write_text("17\n")
    assert missing({"watch": 17}, {}, {"watch": lock}, ()) == []


def test_who_listens_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert listens(os.getpid(), server.getsockname()[1])
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    assert not listens(os.getpid(), port)


def test_a_process_that_is_gone_does_not_listen() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not listens(ended.pid, 0)
    assert not listens(None, 0)


@pytest.mark.parametrize("as_json", [True, False])
def test_an_output_that_nobody_reads_any_more_does_no_harm(tmp_path: Path, as_json: bool) -> None:
    script = (
        "import sys; from cli.addresses import *; from config.settings import Settings; sys.stdin.read()\n"
        f"sys.exit(7 if say(text_of(addresses_of(Settings()), as_json={as_json})) else 0)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=own_environment({}),
    )
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"")


def test_the_addresses_tell_where_everything_is(tmp_path: Path) -> None:
    settings = settings_in(
        tmp_path,
        listener={"ae_title": "CORE", "port": 104},
        watch={"folders": [{"path": tmp_path / "in"}]},
        deliver={
            "pacs": [{"name": "main", "ae_title": "PACS", "host": "pacs", "port": 11112}],
            "folder": {"path": tmp_path / "out"},
            "email": {"host": "mail", "port": 25, "from": "a@b.example", "password": "secret-word"},
        },
    )
    addresses = addresses_of(settings)
    assert addresses.destinations == ("PACS main (PACS at pacs:11112)", f"folder {tmp_path / 'out'}", "e-mail by mail:25")
    text = text_of(addresses, as_json=False)
    for part in ("CORE at 0.0.0.0:104", "http://127.0.0.1:5555", RESEARCH_LABEL, "flower-password"):
        assert part in " ".join(text.split()) or part in "".join(text.split())
    assert "secret-word" not in text + text_of(addresses, as_json=True)
