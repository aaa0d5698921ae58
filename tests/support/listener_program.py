"""The listener as a separate process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from config.settings import Settings
from tests.support.net import wait_for

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import importlib
import json
import sys
from config.logging import configure_logging
from config.settings import Settings
from dicom_listener.program import serve
settings = Settings.model_validate_json(sys.argv[1])
for name, value in json.loads(sys.argv[2]).items():
    module, _, constant = name.rpartition(".")
    setattr(importlib.import_module(module), constant, value)
configure_logging(settings.log, "listen")
serve(settings)
"""


@contextmanager
def program(
    settings: Settings, *, environment: Mapping[str, str] | None = None, constants: Mapping[str, float] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """`serve` in a separate process; ends it by SIGTERM and checks for exit code 0.

    Parameters
    ----------
    environment
        Variables besides those of this process.
    constants
        Other values for constants of modules, such as `dicom_listener.prefork.HANGS_AFTER_S`.
    """
    arguments = [settings.model_dump_json(), json.dumps(dict(constants or {}))]
    log = settings.data_dir.parent / "log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            cwd=ROOT,
            stderr=stream,
            text=True,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
        try:
            wait_for("the ready line", lambda: "event='listening'" in log.read_text() or process.poll() is not None, seconds=20)
            assert process.poll() is None, log.read_text()
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0, log.read_text()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
