"""`corewatch doctor`: checks the installation and names the remedy of each problem."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.command_group import ExitCode
from cli.options import chosen_file, config_option, json_option, settings_of
from corewatch import RESEARCH_LABEL
from corewatch.clock import utc_now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cli.checks import Check


@click.command()
@config_option
@json_option
def doctor(config_file: Path | None, as_json: bool) -> None:
    """Check this installation: folders, ports, broker, ledger, model and every destination.

    Connects to the PACS and the mail server without sending anything. Exit code 4: at least one check found an error.
    """
    import logging

    from cli.checks import Level, all_checks

    settings = settings_of(config_file)
    logging.disable(logging.CRITICAL)  # the report holds what the network libraries would log
    try:
        checks = list(all_checks(settings, utc_now()))
    finally:
        logging.disable(logging.NOTSET)
    if as_json:
        click.echo(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        _print(checks, chosen_file(config_file))
    click.get_current_context().exit(ExitCode.FAILED if any(c.level is Level.ERROR for c in checks) else ExitCode.DONE)


def _print(checks: Sequence[Check], file: Path | None) -> None:
    from rich.table import Table
    from rich.text import Text

    from cli.console import PlainConsole

    styles = {"ok": "green", "warning": "yellow", "error": "bold red"}
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for check in checks:
        text = Text(check.found)
        if check.remedy:
            text.append(f"\n-> {check.remedy}", style=styles[check.level])
        table.add_row(Text(check.level, style=styles[check.level]), check.subject, text)
    console = PlainConsole()
    console.print(f"Settings: {file or 'built-in values (there is no settings file)'}", style="dim")
    console.print(table)
    counts = {level: sum(check.level == level for check in checks) for level in styles}
    console.print(f"errors: {counts['error']}, warnings: {counts['warning']}, in order: {counts['ok']}")
    console.print(RESEARCH_LABEL, style="yellow")
