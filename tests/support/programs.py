"""The programs of corewatch as subprocesses, all of them, as `corewatch up` starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from config import load_settings
from corewatch.states import ENDS
from ledger.cases import Case
from ledger.store import Ledger
from tests.support.net import answers, free_port, wait_for

COMMAND = str(Path(sys.executable).parent / "corewatch")
START_LIMIT_S = 90.0


class Corewatch:
    """`corewatch up` in a folder of its own, with embedded Redis and SQLite."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        self.port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        everything = {
            "listener": {"port": self.port, "host": "127.0.0.1"},
            "flower": {"port": free_port()},
            "series": {"grace_s": 0.5, "idle_s": 5},
            "watch": {"folders": [{"path": "./inbox"}], "settle_s": 0.5, "rescan_s": 1},
            **settings,
        }
        self.file = folder / "corewatch.yaml"
        self.file.write_text(yaml.safe_dump(everything))
        self.settings = load_settings(self.file, {})
        self.inbox = self.settings.watch.folders[0].path
        self.log = folder / "corewatch.log"
        self._out = self.log.open("wb")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("COREWATCH__")}
        self.process = subprocess.Popen(
            [COMMAND, "up", "--config", str(self.file)], stdout=self._out, stderr=subprocess.STDOUT, env=environment
        )
        self.ledger: Ledger | None = None
        try:
            wait_for("the listener", self._listening, START_LIMIT_S)
            wait_for("the inbox", lambda: self.inbox.is_dir(), START_LIMIT_S)
        except BaseException:
            self.stop()
            raise

    def _listening(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"corewatch up ended with {self.process.returncode}:\n{self.tail()}")
        return answers(self.port)

    def tail(self, lines: int = 60) -> str:
        """The end of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def cases(self) -> list[Case]:
        """All cases, newest first."""
        if self.ledger is None:
            self.ledger = Ledger(self.settings.database_url)
        return self.ledger.cases.find()

    def ended(self, count: int, seconds: float = 180.0, **fits: Any) -> list[Case]:
        """Wait until `count` cases that fit (`series_uid=...`) have come to an end, and return them."""

        def look() -> list[Case] | None:
            cases = [c for c in self.cases() if all(getattr(c, k) == v for k, v in fits.items())]
            done = [c for c in cases if c.state in ENDS]
            return done if len(done) >= count else None

        try:
            return wait_for(f"{count} ended cases", look, seconds, every=0.1)
        except AssertionError as error:
            states = {c.case_id: (str(c.state), c.detail) for c in self.cases()}
            raise AssertionError(f"{error}; cases {states}\n{self.tail()}") from None

    def stop(self) -> int:
        """SIGTERM, as systemd does; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(120)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"corewatch up did not stop:\n{self.tail()}") from None
        if self.ledger is not None:
            self.ledger.close()
        self._out.close()
        return self.process.returncode
