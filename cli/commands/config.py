"""`corewatch config`: shows the settings in effect and checks a settings file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.command_group import ExitCode
from cli.options import chosen_file, config_option, json_option
from corewatch.errors import ConfigurationError

if TYPE_CHECKING:
    from config.mistakes import Mistake


@click.group(help="Show or check the settings.")
@config_option
def config(config_file: Path | None) -> None:
    """Group of commands."""


@config.command()
@config_option
@json_option
def show(config_file: Path | None, as_json: bool) -> None:
    """Print the settings in effect, as YAML; secrets are masked."""
    import yaml

    from config.loading import load_settings

    file = chosen_file(config_file)
    values = load_settings(file).model_dump(mode="json", by_alias=True)  # secrets become asterisks
    if as_json:
        sys.stdout.write(json.dumps(values, indent=2) + "\n")
        return
    sys.stdout.write(f"# in effect; from {file or 'built-in values'}, and the environment\n")
    sys.stdout.write(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120))


@config.command()
@config_option
@json_option
def check(config_file: Path | None, as_json: bool) -> None:
    """Load and validate the settings; exit code 2 when they cannot work."""
    from cli.checks.settings import all_mistakes
    from config.loading import load_settings

    file = chosen_file(config_file)
    found: list[Mistake] = []
    problem = ""
    try:
        found = all_mistakes(load_settings(file))
    except ConfigurationError as error:
        if not as_json:
            raise
        problem = str(error)
    if found:
        problem = f"{file or 'settings'}: " + "\n  ".join(map(str, found))
        if not as_json:
            raise ConfigurationError(problem)
    name = None if file is None else str(file)
    if problem:
        listed = [one._asdict() for one in found]
        click.echo(json.dumps({"file": name, "valid": False, "problem": problem, "mistakes": listed}))
        click.get_current_context().exit(ExitCode.USAGE)
    if as_json:
        click.echo(json.dumps({"file": name, "valid": True}))
    else:
        click.echo(f"{file or 'built-in values'}: valid")
