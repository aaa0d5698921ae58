"""`corewatch up`: its subprocesses, and what it prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cli.children import own_command, own_environment, programs
from cli.commands.up import addresses_of, format_addresses
from config.settings import Settings
from corewatch import RESEARCH_LABEL


def settings_in(folder: Path, **sections: object) -> Settings:
    return Settings.model_validate({"data_dir": folder, **sections})


def test_children_get_no_secret_on_their_command_line(tmp_path: Path) -> None:
    command = own_command(tmp_path / "c.yaml", ["work", "--queues", "detect"])
    assert command == [sys.executable, "-P", "-m", "cli", "--config", str(tmp_path / "c.yaml"), "work", "--queues", "detect"]


def test_the_listener_stops_first_and_workers_together() -> None:
    order = {program.name: program.stop_order for program in programs(None, {})}
    assert order["listen"] < order["watch"] < order["work-prepare"] < order["flower"]
    assert len({order[f"work-{queue}"] for queue in ("prepare", "detect", "deliver")}) == 1


@pytest.mark.parametrize("as_json", [True, False])
def test_an_output_that_nobody_reads_any_more_does_no_harm(tmp_path: Path, as_json: bool) -> None:
    script = (
        "import sys; from cli.commands.up import addresses_of, format_addresses, write_stdout\n"
        "from config.settings import Settings\n"
        "sys.stdin.read()\n"
        f"sys.exit(7 if write_stdout(format_addresses(addresses_of(Settings()), as_json={as_json})) else 0)"
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
    text = format_addresses(addresses, as_json=False)
    for part in ("CORE at 0.0.0.0:104", "http://127.0.0.1:5555", RESEARCH_LABEL, "flower-password"):
        assert part in " ".join(text.split()) or part in "".join(text.split())
    assert "secret-word" not in text + format_addresses(addresses, as_json=True)
