"""The programs of `corewatch up`, as subprocesses of the same command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from cli.supervisor import Program
from cli.watchdog import VARIABLES, Watchdog
from jobs import tether
from jobs.names import QUEUES

LISTENER_STOP_S = 25.0
WATCH_STOP_S = 35.0
WORKER_STOP_S = 30.0
"""A worker finishes what it has in hand within this or is killed; the broker then gives the work out again."""
MONITOR_STOP_S = 5.0
PORTAL_STOP_S = 10.0

STDERR = 2
"""The programs' standard output goes where their log goes: that of `corewatch up` holds its own answer alone."""


def programs(config_file: Path | None, environment: Mapping[str, str], *, portal: bool = False) -> list[Program]:
    """All programs: the listener is stopped first, so that nothing new comes in, then the watch, then the workers.

    Parameters
    ----------
    config_file
        Settings file, absolute; None: built-in values.
    environment
        Environment of the programs.
    portal
        Also the pages that links in mails lead to.
    """

    # a manager of our own is none of theirs
    mine = {name: value for name, value in environment.items() if name not in VARIABLES}

    def program(
        name: str, arguments: Sequence[str], stop_order: int, stop_limit_s: float, watchdog: Watchdog | None = None
    ) -> Program:
        command, variables = own_command(config_file, arguments), mine if watchdog is None else {**mine, **watchdog.environment}
        return Program(name, lambda: spawn(command, variables, stdout=STDERR), stop_order, stop_limit_s, watchdog)

    return [
        program("listen", ["listen"], 0, LISTENER_STOP_S, Watchdog()),
        program("watch", ["watch"], 1, WATCH_STOP_S, Watchdog()),
        *(program(f"work-{queue}", ["work", "--queues", queue], 2, WORKER_STOP_S) for queue in QUEUES),
        program("flower", ["flower"], 3, MONITOR_STOP_S),
        *([program("portal", ["portal"], 3, PORTAL_STOP_S)] if portal else []),
    ]


def own_command(config_file: Path | None, arguments: Sequence[str]) -> list[str]:
    """The command line of `corewatch` with the interpreter that runs now; -P: nothing is imported from the present folder."""
    config = [] if config_file is None else ["--config", str(config_file)]
    return [sys.executable, "-P", "-m", "cli", *config, *arguments]


def own_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment for `own_command`: ours, with a path to our packages where they are not installed, and `extra`."""
    environment = dict(os.environ)
    root = Path(__file__).resolve().parents[1]
    if not {"site-packages", "dist-packages"} & set(root.parts):  # a checkout
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), environment.get("PYTHONPATH")]))
    environment.update(extra)
    return environment


def spawn(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    stdout: IO[bytes] | int | None = None,
    stderr: IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program that ends with this one, in a session of its own: Ctrl-C reaches the supervisor alone.

    Call it from the main thread, see `jobs.tether`.
    """
    return subprocess.Popen(
        tether.command_line(list(command)),
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )
