"""`corewatch model`: installs, lists and verifies models."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click

from cli.command_group import ExitCode, UsageProblem
from cli.options import config_option, json_option, settings_of
from cli.running import RESTART
from corewatch.errors import ConfigurationError


@click.group(help="Install, list or verify models.")
@config_option
def model(config_file: Path | None) -> None:
    """Group of commands."""


@model.command("list")
@config_option
@json_option
def list_(config_file: Path | None, as_json: bool) -> None:
    """List built-in and installed models."""
    from worker.models.registry import ModelEntry, list_models

    def line(entry: ModelEntry) -> dict[str, Any]:
        manifest = entry.manifest
        return {
            "name": entry.name,
            "version": None if manifest is None else manifest.version,
            "sha256": None if manifest is None else manifest.sha256,
            "origin": "built in" if entry.builtin else "installed",
            "in_use": entry.name in settings.model_names,
            "problem": entry.problem,
            "intended_use": None if manifest is None else manifest.intended_use,
        }

    settings = settings_of(config_file)
    lines = [line(entry) for entry in list_models(settings.models_dir)]
    if as_json:
        click.echo(json.dumps(lines, indent=2))
    else:
        _print_table(lines)


def _print_table(lines: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from cli.console import PlainConsole

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("Model", "Version", "SHA-256", "Origin", "Use"):
        table.add_column(name, overflow="fold")
    for line in lines:
        digest = "" if line["sha256"] is None else line["sha256"][:12]
        use = line["problem"] or line["intended_use"] or ""
        table.add_row(line["name"] + (" *" if line["in_use"] else ""), line["version"] or "", digest, line["origin"], use)
    console = PlainConsole()
    console.print(table)
    console.print("* in use (model.name, or the model of a rule)", style="dim")


@model.command()
@click.argument("source", metavar="FILE-OR-URL")
@click.option("--name", metavar="NAME", help="Name to use in model.name; default: the file's name.")
@click.option("--version", "version", default="1", show_default=True, help="Version that results name.")
@click.option("--sha256", metavar="HEX", help="Digest that the file must have.")
@click.option("--adapter", default="deepsymnet", show_default=True, help="Adapter that reads the file.")
@click.option(
    "--asymmetry-sd-hu",
    type=click.FloatRange(min=0, min_open=True),
    metavar="HU",
    help="Standard deviation of the normal left-right difference with this model, for the side's confidence. Default: 3, assumed.",
)
@click.option(
    "--rmse-ml",
    type=click.FloatRange(min=0, min_open=True),
    metavar="ML",
    help="The model's own error: root mean square difference from the reference volumes of its validation data. Default: what is "
    "published about these weights, or not known.",
)
@click.option(
    "--input-mask/--no-input-mask",
    default=True,
    help="Cut off skull and scalp beyond the brain's rim, as the published weights' training heads were; not, if the model was "
    "trained on whole heads.",
)
@click.option("--intended-use", metavar="TEXT", help="What the model is for. Default: research use only, not for diagnosis.")
@click.option("--citation", default="", help="Publication of the model.")
@click.option("--licence", default="", help="Licence of the weights.")
@config_option
@json_option
def install(
    source: str,
    name: str | None,
    version: str,
    sha256: str | None,
    adapter: str,
    asymmetry_sd_hu: float | None,
    rmse_ml: float | None,
    input_mask: bool,
    intended_use: str | None,
    citation: str,
    licence: str,
    config_file: Path | None,
    as_json: bool,
) -> None:
    """Check a weights file and install it; workers load it when they are started next."""
    from worker.models.install import RESEARCH_USE, install_model
    from worker.models.manifest import Thresholds

    settings = settings_of(config_file)
    chosen = name or default_name(source)
    manifest = install_model(
        source if "://" in source else Path(source),
        settings.models_dir,
        chosen,
        version=version,
        sha256=sha256,
        adapter=adapter,
        thresholds=None if asymmetry_sd_hu is None else Thresholds(asymmetry_sd_hu=asymmetry_sd_hu),
        rmse_ml=rmse_ml,
        input_mask=input_mask,
        intended_use=intended_use or RESEARCH_USE,
        citation=citation,
        licence=licence,
    )
    if as_json:
        click.echo(json.dumps({"name": manifest.name, "version": manifest.version, "sha256": manifest.sha256}))
        return
    click.echo(f"installed {manifest.name} {manifest.version}, SHA-256 {manifest.sha256}")
    if manifest.name in settings.model_names:
        from config.running_programs import running_programs

        running = [one for one in running_programs(settings.data_dir) if one.name.startswith("work") and "detect" in one.name]
        for one in running:
            click.echo(f"{one.name}, which started at {one.started_at.astimezone():%H:%M}, still uses the earlier model: {RESTART}")
        if not running:
            click.echo("a detect worker that has loaded this model uses the new one after a restart")
    else:
        click.echo(f"to use it, write `model: {{name: {manifest.name}}}` into the settings, then run `corewatch reload`")


def default_name(source: str) -> str:
    """A model's name from the file's: lower case, letters, digits and hyphens."""
    stem = source.rsplit("?", 1)[0].rstrip("/").rsplit("/", 1)[-1].rsplit(".", 1)[0]
    name = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")
    if not name:
        raise UsageProblem("the file's name has no letter or digit for a model's name", "give one with --name")
    return name


@model.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@config_option
@json_option
def verify(names: tuple[str, ...], config_file: Path | None, as_json: bool) -> None:
    """Compare the weights with their digests, and check that they are sound. Without a NAME: all models."""
    from worker.models.registry import list_models, verify_model

    settings = settings_of(config_file)
    problems: dict[str, str | None] = {}
    for name in names or [entry.name for entry in list_models(settings.models_dir)]:
        try:
            verify_model(name, settings.models_dir)
            problems[name] = None
        except ConfigurationError as error:
            problems[name] = str(error)
    if as_json:
        answer = [{"name": name, "sound": problem is None, "problem": problem} for name, problem in problems.items()]
        click.echo(json.dumps(answer, indent=2))
    else:
        for name, problem in problems.items():
            click.echo(f"{name}: {problem or 'sound'}")
    click.get_current_context().exit(ExitCode.FAILED if any(problems.values()) else ExitCode.DONE)
