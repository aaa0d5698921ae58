"""`corewatch demo`: the whole path on a synthetic head, with a PACS and a mail server that stand in for the hospital's."""

from __future__ import annotations

import logging
import shutil
import signal
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.command_group import ExitCode
from cli.options import config_option, json_option, settings_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from cli.demonstration.progress import ProgressPrinter
    from cli.demonstration.report import Outcome

_log = logging.getLogger(__name__)

START_LIMIT_S = 300.0
"""Longest start: TensorFlow loads slowly on a slow machine."""

SLICES = 320

SEED = 20_000_007
"""A head that the built-in model has not been trained on (`worker.training` takes its seeds from 0 upwards)."""


@click.command()
@click.option(
    "--dir", "folder", type=click.Path(file_okay=False, path_type=Path), default=Path("demo"), show_default=True, metavar="DIR",
    help="Each run makes a new folder in it (about 0.5 GB).",
)  # fmt: skip
@click.option("--core-ml", type=click.FloatRange(min=0), default=60.0, show_default=True, help="Core of the synthetic head in mL.")
@click.option("--side", type=click.Choice(["left", "right"]), default="left", show_default=True, help="Side of its core.")
@click.option("--seed", type=click.IntRange(min=0), default=SEED, show_default=True, help="Another seed is another head.")
@click.option("--model", default="phantom-demo", show_default=True, metavar="NAME", help="Model to use.")
@click.option("--timeout", "timeout_s", default=600.0, show_default=True, help="Longest wait for the result, in seconds.")
@click.option("--keep", is_flag=True, help="Leave everything running afterwards, until Ctrl-C, to look at the portal.")
@config_option
@json_option
def demo(
    folder: Path, core_ml: float, side: str, seed: int, model: str, timeout_s: float, keep: bool, config_file: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Show the whole path: a synthetic head is sent by C-STORE, its result arrives in a PACS, a folder and an e-mail.

    Everything runs on this machine, on free ports, in DIR; of the hospital's settings only the installed models are used.
    Exit code 0 only if the result really arrived everywhere.
    """
    from cli.console import PlainConsole
    from cli.demonstration.progress import ProgressPrinter
    from cli.demonstration.report import outcome_json, print_outcome
    from cli.demonstration.service import tail
    from corewatch import RESEARCH_LABEL
    from corewatch.errors import CorewatchError

    model_folder, intended_use = _model(model, config_file)
    console = PlainConsole(stderr=as_json)
    run = _new_folder(folder)
    _log_to(run / "demo.log")
    signal.signal(signal.SIGTERM, _stop)
    console.print(f"corewatch demo: a synthetic head through the whole path. {RESEARCH_LABEL}.", style="bold")
    console.print(f"Model {model}: {intended_use}", soft_wrap=True)
    console.print(f"Everything of this run is in {run}", soft_wrap=True)
    if model_folder is not None:
        shutil.copytree(model_folder, run / "data" / "models" / model)
    problems: list[str] = []

    def report(outcome: Outcome) -> None:
        problems.extend(outcome.problems)
        print_outcome(outcome, console)
        if as_json:
            click.echo(outcome_json(outcome))

    progress = ProgressPrinter(console)
    try:
        _show(run, progress, report, keep=keep, core_ml=core_ml, side=side, seed=seed, model=model, timeout_s=timeout_s)
    except CorewatchError as error:
        problems.append(str(error))
    if problems:
        console.print(f"\nThe end of {run / 'corewatch.log'}:\n", style="bold")
        console.print(tail(run / "corewatch.log"), soft_wrap=True)
        for problem in problems:
            console.print(f"failed: {problem}", style="bold red", soft_wrap=True)
    click.get_current_context().exit(ExitCode.FAILED if problems else ExitCode.DONE)


def _stop(_number: int, _frame: object) -> None:
    """Stop everything on SIGTERM, as Ctrl-C does; KeyboardInterrupt within an extension module would end us by SIGINT instead."""
    raise SystemExit(1)


def _model(name: str, config_file: Path | None) -> tuple[Path | None, str]:
    """Folder of an installed model (None: built in), and its intended use.

    Raises
    ------
    ConfigurationError
        There is no model of this name.
    """
    from worker.models.registry import BUILTIN_DIR, find_model

    folder, manifest = find_model(name, settings_of(config_file).models_dir)
    return (None if folder.parent == BUILTIN_DIR else folder), manifest.intended_use


def _show(
    run: Path, progress: ProgressPrinter, report: Callable[[Outcome], None], *, keep: bool, core_ml: float, side: str, seed: int,
    model: str, timeout_s: float,
) -> None:  # fmt: skip
    from cli.demonstration.portal_login import sign_in_link, wait_for_interrupt
    from cli.demonstration.progress import follow
    from cli.demonstration.report import Truth, outcome_of
    from cli.demonstration.service import Service, write_settings
    from cli.demonstration.stand_ins import MailSink, PacsStandIn
    from config.loading import load_settings

    with PacsStandIn(run / "pacs") as pacs, MailSink(run / "mail") as mail:
        settings_file = write_settings(run, pacs_port=pacs.port, mail_port=mail.port, model=model)
        settings = load_settings(settings_file, {})
        with Service(settings_file) as service:
            truth = _make_series(run / "series", progress, core_ml=core_ml, side=side, seed=seed, salt=run.name)
            with progress.doing("Starting corewatch"):
                addresses = service.wait_until_ready(START_LIMIT_S)
            progress.done("corewatch is ready")
            password = Path(addresses["flower_password_file"]).relative_to(run)
            progress.note(f"queue monitor: {addresses['flower']}, user {addresses['flower_user']}, password in {password}")
            progress.note(f"portal: {settings.portal.url if settings.portal else ''}")
            progress.note(f"sign in to it once: {sign_in_link(settings)}")
            _send(truth.files, settings.listener.ae_title, settings.listener.port, progress)
            case, deliveries = follow(
                settings.database_url, truth.series_uid, progress, limit_s=timeout_s, check=service.check_alive
            )
            true = Truth(truth.core_ml, str(truth.side))
            if keep:
                report(outcome_of(case, deliveries, true, run, pacs.received, mail.received))
                progress.note("everything keeps running until Ctrl-C")
                progress.note(f"sign in to the portal: {sign_in_link(settings)}")
                wait_for_interrupt()
            with progress.doing("Stopping corewatch"):
                service.__exit__()
            if not keep:
                report(outcome_of(case, deliveries, true, run, pacs.received, mail.received))


def _make_series(folder: Path, progress: ProgressPrinter, *, core_ml: float, side: str, seed: int, salt: str) -> Any:
    from corewatch.findings import Side
    from phantom.dicom_series import write_series
    from phantom.head import HeadSpec, make_head

    try:
        spec = HeadSpec(seed, core_ml, Side(side) if core_ml else Side.NONE)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--core-ml") from error
    with progress.step("Making a synthetic head", "Synthetic head made"):
        head = make_head(spec)
    with progress.step("Scanning it", f"Scanned: {SLICES} slices of a CT angiography"):
        return write_series(head, folder, slices=SLICES, seed=seed, uid_salt=salt)


def _send(files: tuple[Path, ...], ae_title: str, port: int, progress: ProgressPrinter) -> None:
    from cli.demonstration.stand_ins import LOOPBACK, PACS_AE_TITLE
    from corewatch.errors import OperatorNeeded
    from foundation.dicom_client.storage import StoreResult, send_files

    with progress.step("Sending it by C-STORE", f"Sent by C-STORE: {len(files)} images stored by {ae_title}"):
        outcomes = send_files(files, host=LOOPBACK, port=port, called_ae=ae_title, calling_ae=PACS_AE_TITLE)
        failed = [outcome for outcome in outcomes if outcome.result is StoreResult.FAILED]
        if failed:
            raise OperatorNeeded(f"{len(failed)} images were not stored: {failed[0].meaning}")


def _new_folder(parent: Path) -> Path:
    """Make a folder that is named by the time; a second run in the same second gets a number."""
    parent.mkdir(parents=True, exist_ok=True)
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    for number in range(1000):
        folder = parent.resolve() / (stamp if number == 0 else f"{stamp}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(17, "too many runs in one second", str(parent))


def _log_to(path: Path) -> None:
    """Log of this process into a file, so that the terminal shows the demonstration only."""
    logging.basicConfig(filename=path, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True)
    for name in ("pynetdicom", "mail.log"):
        logging.getLogger(name).setLevel(logging.WARNING)
