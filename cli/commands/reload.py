"""`corewatch reload`: applies changed settings, by restarting the programs that they concern."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from cli.command_group import ExitCode
from cli.options import chosen_file, config_option, json_option

if TYPE_CHECKING:
    from config.settings import Settings

LIMIT_S: Final = 90.0
"""Longest wait for the restarted programs: a worker finishes its task first."""


@click.command()
@config_option
@json_option
def reload(config_file: Path | None, as_json: bool) -> None:
    """Check the settings, and restart the programs that they concern; the others keep running.

    Under `corewatch up` this is done here. Programs of systemd or of containers are named, for you to restart.
    """
    from cli.checks.settings import all_mistakes
    from cli.running import RESTART, outdated_sentences
    from config.loading import load_settings
    from config.running_programs import outdated_programs
    from corewatch.errors import ConfigurationError

    settings = load_settings(chosen_file(config_file))
    if wrong := all_mistakes(settings):
        raise ConfigurationError("\n  ".join(map(str, wrong)))
    before = [one.program.name for one in outdated_programs(settings.data_dir)]
    pid = _supervisor(settings) if before else None
    if pid is not None:
        from cli.commands.up import RELOAD_SIGNAL

        os.kill(pid, RELOAD_SIGNAL)
        _wait_until_present(settings, frozenset(before))
    left = outdated_sentences(settings.data_dir)
    if as_json:
        click.echo(json.dumps({"restarted": [] if pid is None or left else before, "outdated": left}))
    elif not before:
        click.echo("nothing to do: every running program has the present settings")
    elif not left:
        click.echo(f"restarted with the present settings: {', '.join(before)}")
    else:
        click.echo("\n".join(left))
        click.echo("see the log of `corewatch up`" if pid is not None else RESTART)
    click.get_current_context().exit(ExitCode.FAILED if left else ExitCode.DONE)


def _supervisor(settings: Settings) -> int | None:
    """Process id of `corewatch up` in this data folder, if it runs on this host."""
    from foundation.lock import UP_LOCK, is_locked

    path = settings.data_dir / UP_LOCK
    if not path.exists() or not is_locked(path):
        return None
    import psutil

    try:
        process = psutil.Process(int(path.read_text()))
        ours = "up" in process.cmdline()  # in a container's data folder the number means another process here
    except (OSError, ValueError, psutil.Error):
        return None
    return process.pid if ours else None


def _wait_until_present(settings: Settings, names: frozenset[str]) -> None:
    """Wait until all these programs run again, with the present settings."""
    from config.running_programs import outdated_programs, running_programs

    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        time.sleep(0.2)
        running = {program.name for program in running_programs(settings.data_dir)}
        if names <= running and not outdated_programs(settings.data_dir):
            return
