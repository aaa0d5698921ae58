"""Subprocesses of `corewatch up`: command line, environment and stop limits of each program."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from cli.program_health import WATCHDOG_LIMIT_S, WATCHDOG_VARIABLES, NotifySocket
from cli.supervisor import Program
from jobs import die_with_parent
from jobs.names import QUEUES

LISTENER_STOP_S = 25.0
WATCH_STOP_S = 35.0
WORKER_STOP_S = 30.0
"""A worker that has not finished its task by then is killed; the broker delivers the task again."""
MONITOR_STOP_S = 5.0
PORTAL_STOP_S = 10.0

STDERR = 2
"""Descriptor for the programs' standard output: that of `corewatch up` carries its own answer only."""


def programs(
    config_file: Path | None,
    environment: Mapping[str, str],
    *,
    portal: bool = False,
    watchdog_limit_s: float = WATCHDOG_LIMIT_S,
) -> list[Program]:
    """All programs. The listener is stopped first, so that no new series arrives, then the watch, then the workers.

    Parameters
    ----------
    config_file
        Settings file, absolute; None: built-in values.
    environment
        Environment of the programs.
    portal
        Whether to run the portal.
    watchdog_limit_s
        Seconds without a report after which a program hangs.
    """

    # the service manager of `corewatch up` is not that of its programs
    inherited = {name: value for name, value in environment.items() if name not in WATCHDOG_VARIABLES}

    def program(name: str, arguments: Sequence[str], stop_order: int, stop_limit_s: float) -> Program:
        watchdog = NotifySocket(watchdog_limit_s)
        command = own_command(config_file, arguments)
        variables = {**inherited, **watchdog.environment}
        return Program(name, lambda: spawn(command, variables, stdout=STDERR), stop_order, stop_limit_s, watchdog)

    return [
        program("listen", ["listen"], 0, LISTENER_STOP_S),
        program("watch", ["watch"], 1, WATCH_STOP_S),
        *(program(f"work-{queue}", ["work", "--queues", queue], 2, WORKER_STOP_S) for queue in QUEUES),
        program("flower", ["flower"], 3, MONITOR_STOP_S),
        *([program("portal", ["portal"], 3, PORTAL_STOP_S)] if portal else []),
    ]


def own_command(config_file: Path | None, arguments: Sequence[str]) -> list[str]:
    """Command line of `corewatch` with this interpreter; -P: nothing is imported from the working folder."""
    config = [] if config_file is None else ["--config", str(config_file)]
    return [sys.executable, "-P", "-m", "cli", *config, *arguments]


def own_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Environment for `own_command`: that of this process, the path of a checkout if this is one, and `extra`."""
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
    """Start a program in a new session, so that Ctrl-C reaches the supervisor only; it ends with this process.

    Call it from the main thread, see `jobs.die_with_parent`.
    """
    return subprocess.Popen(
        die_with_parent.command_line(list(command)),
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )
