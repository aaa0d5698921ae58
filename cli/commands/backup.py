"""`corewatch backup` and `corewatch restore`: the ledger, received images, cases, models and keys."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.options import chosen_file, config_option, json_option, settings_of
from corewatch.clock import utc_now

if TYPE_CHECKING:
    from cli.backup_folder import Report


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@config_option
@json_option
def backup(config_file: Path | None, folder: Path, as_json: bool) -> None:
    """Back up the ledger, received images, cases, models and keys into DIR, which must be empty or not exist.

    Programs may run meanwhile. The backup holds patient data and the key that signs links: keep it on an encrypted disk.
    """
    from cli.backup_folder import back_up

    settings = settings_of(config_file)
    _print("backed up into", back_up(settings, chosen_file(config_file), folder, utc_now()), as_json=as_json)


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, exists=True, file_okay=False))
@config_option
@json_option
def restore(config_file: Path | None, folder: Path, as_json: bool) -> None:
    """Restore the backup in DIR into the data folder and the database of the settings, which must both be empty.

    Run it as corewatch's user, and start the programs afterwards.
    """
    from cli.backup_folder import restore as restore_folder

    _print("restored into", restore_folder(settings_of(config_file), folder), as_json=as_json)


def _print(what: str, report: Report, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({name: value for name, value in asdict(report).items() if value is not None}))
        return
    cases = "" if report.cases is None else f", {report.cases} cases"
    click.echo(f"{what} {report.folder}: {report.files} files, {report.size / 2**20:.1f} MiB{cases}")
