"""`corewatch audit`: shows and exports the audit trail (who sent, which model, which destination, who acknowledged)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from cli.command_group import UsageProblem
from cli.options import config_option, settings_of
from cli.printable import printable

_TIME = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"])


@click.group()
@config_option
def audit(config_file: Path | None) -> None:
    """Read the audit trail. It names cases, systems and staff, not patients; entries cannot be changed or removed."""


@audit.command()
@click.option("--since", type=_TIME, help="From this time (UTC).")
@click.option("--until", type=_TIME, help="Up to this time (UTC).")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="A file that does not exist yet; else standard output."
)
@config_option
def export(config_file: Path | None, since: datetime | None, until: datetime | None, out: Path | None) -> None:
    """Write the trail as JSON lines, oldest first."""
    from ledger.store import Ledger

    settings = settings_of(config_file)
    if out is not None and out.exists():
        raise UsageProblem(f"--out: {out} exists already", "give another name")
    ledger = Ledger(settings.database_url)
    try:
        with click.open_file("-" if out is None else str(out), "w") as file:
            for line in ledger.audit_trail.lines(since=_utc(since), until=_utc(until)):
                file.write(json.dumps(line.to_json(), ensure_ascii=False) + "\n")
    finally:
        ledger.close()


@audit.command()
@click.argument("case_id", metavar="CASE_ID")
@config_option
def show(config_file: Path | None, case_id: str) -> None:
    """Show the audit trail of one case."""
    from ledger.store import Ledger

    ledger = Ledger(settings_of(config_file).database_url)
    try:
        history = ledger.cases.history(case_id)
    finally:
        ledger.close()
    if not history:
        raise UsageProblem(f"there is no case {case_id}", "`corewatch cases list` shows the cases")
    for line in history:
        fields = "  ".join(f"{name}={value}" for name, value in line.detail.items())
        click.echo(f"{line.at:%Y-%m-%d %H:%M:%S}Z  {line.event:<28} {printable(fields)}".rstrip())


def _utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.replace(tzinfo=UTC)
