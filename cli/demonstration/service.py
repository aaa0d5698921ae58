"""Separate corewatch for the demonstration: a settings file, and `corewatch up` as a subprocess."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any, Final, Self

import yaml

from cli.children import own_command, own_environment, spawn
from cli.demonstration.stand_ins import LOOPBACK, PACS_AE_TITLE, free_port
from cli.supervisor import kill_group
from config.loading import PREFIX
from corewatch.errors import OperatorNeeded

STOP_LIMIT_S = 120.0
"""Longer than `corewatch up` takes to stop in the worst case."""

_POLL_S = 0.1

OBJECTS: Final = ["sc", "seg", "pmap", "sr", "kos"]
"""Every kind of DICOM object."""


def write_settings(folder: Path, *, pacs_port: int, mail_port: int, model: str) -> Path:
    """Write a settings file: all paths in `folder`, all addresses on loopback with free ports."""
    portal_port = free_port()
    settings: dict[str, Any] = {
        "data_dir": "./data",
        "portal": {"host": LOOPBACK, "port": portal_port, "url": f"http://{LOOPBACK}:{portal_port}"},
        "listener": {"ae_title": "COREWATCH", "host": LOOPBACK, "port": free_port()},
        "watch": {"folders": [{"path": "./inbox"}]},
        "model": {"name": model},
        "deliver": {
            "pacs": [{"name": "pacs", "ae_title": PACS_AE_TITLE, "host": LOOPBACK, "port": pacs_port, "objects": OBJECTS}],
            "folder": {"path": "./results"},
            "email": {
                "host": LOOPBACK,
                "port": mail_port,
                "security": "none",
                "from": "corewatch@demo.invalid",
                "to": ["stroke-team@demo.invalid"],
                "operators": ["operators@demo.invalid"],
            },
        },
        "flower": {"host": LOOPBACK, "port": free_port()},
        "retention": {"free_gib": 0},
        "log": {"format": "text"},
    }
    path = folder / "corewatch.yaml"
    path.write_text("# Settings of a demonstration.\n" + yaml.safe_dump(settings, sort_keys=False))
    return path


class Service:
    """`corewatch up` with a settings file. Use it in a `with` statement, from the main thread; it is stopped at the end.

    Parameters
    ----------
    settings_file
        Its folder also gets `corewatch.log`, the log of all programs, and `addresses.json`.
    """

    def __init__(self, settings_file: Path) -> None:
        self._settings_file = settings_file
        self.log = settings_file.with_name("corewatch.log")
        self._addresses = settings_file.with_name("addresses.json")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = own_command(self._settings_file, ["up", "--json"])
        environment = {k: v for k, v in own_environment({}).items() if not k.startswith(PREFIX)}  # without the hospital's settings
        with self._addresses.open("wb") as out, self.log.open("wb") as log:
            self._process = spawn(command, environment, stdout=out, stderr=log)
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            kill_group(process.pid)
            process.wait()

    def wait_until_ready(self, limit_s: float) -> dict[str, Any]:
        """Wait until all programs are ready; returns the addresses that `corewatch up` prints.

        Raises
        ------
        OperatorNeeded
            It ended, or was not ready in time.
        """
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            self.check_alive()
            text = self._addresses.read_text()
            if text.endswith("\n"):
                addresses: dict[str, Any] = json.loads(text)
                return addresses
            time.sleep(_POLL_S)
        raise OperatorNeeded(f"the programs were not ready within {limit_s:g} s")

    def check_alive(self) -> None:
        """Raise `OperatorNeeded` when `corewatch up` has ended."""
        if self._process is not None and (status := self._process.poll()) is not None:
            raise OperatorNeeded(f"`corewatch up` ended with exit code {status}")


def tail(log: Path, lines: int = 40) -> str:
    """The end of a log."""
    try:
        with log.open("rb") as file:
            file.seek(-min(file.seek(0, os.SEEK_END), 65536), os.SEEK_END)
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    except OSError:
        return "(there is no log)"
