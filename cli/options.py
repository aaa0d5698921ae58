"""Options that commands share (`--config`, `--json`), and the settings that `--config` names."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from config.settings import Settings

_F = TypeVar("_F", bound=Callable[..., Any])


def config_option(function: _F) -> _F:
    """Add `--config F`; the function gets `config_file`."""
    return click.option("--config", "config_file", type=click.Path(path_type=Path), metavar="F", help="Settings file (YAML).")(
        function
    )


def json_option(function: _F) -> _F:
    """Add `--json`; the function gets `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def operator_name() -> str:
    """Name of the user of this machine, for the audit trail."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


def chosen_file(config_file: Path | None) -> Path | None:
    """Absolute path of the settings file: `--config` after the command or before it, else an existing default, else None.

    Raises
    ------
    ConfigurationError
        The named file does not exist.
    """
    from config.loading import find_file

    context: click.Context | None = click.get_current_context()
    while config_file is None and context is not None:
        config_file, context = context.params.get("config_file"), context.parent
    found = find_file(config_file)
    return None if found is None else found.resolve()


def settings_of(config_file: Path | None) -> Settings:
    """Load the settings that `--config` names.

    Raises
    ------
    ConfigurationError
        The settings cannot work.
    """
    from config.loading import load_settings

    return load_settings(chosen_file(config_file))
