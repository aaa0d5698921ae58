"""The listener as a program of its own."""

from __future__ import annotations

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
import sys
from config.logging import configure_logging
from config.settings import Settings
from dicom_listener.program import serve
settings = Settings.model_validate_json(sys.argv[1])
if len(sys.argv) > 2:
    from dicom_listener import prefork
    prefork.HANGS_AFTER_S = float(sys.argv[2])
configure_logging(settings.log, "listen")
serve(settings)
"""


@contextmanager
def program(
    settings: Settings, *, environment: Mapping[str, str] | None = None, hangs_after_s: float | None = None
) -> Iterator[subprocess.Popen[str]]:
    """`serve` in a process of its own; ends it by SIGTERM and asks for exit code 0.

    Parameters
    ----------
    environment
        Variables besides those of this process.
    hangs_after_s
        In the place of `dicom_listener.prefork.HANGS_AFTER_S`.
    """
    arguments = [settings.model_dump_json(), *([] if hangs_after_s is None else [str(hangs_after_s)])]
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
