"""`corewatch run`: analyses one case in the foreground, without broker and ledger."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from cli.command_group import ExitCode
from cli.options import config_option, settings_of
from corewatch.errors import ConfigurationError
from corewatch.identity import new_case_id
from corewatch.states import CaseState

_log = logging.getLogger(__name__)


@click.command()
@click.argument("source", metavar="INPUT", type=click.Path(exists=True, path_type=Path))
@click.option("--out", required=True, metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Results folder.")
@click.option("--aligned", is_flag=True, help="INPUT is a NIfTI on the network's grid already.")
@click.option("--model", metavar="NAME", help="Model to use; default: model.name of the settings.")
@click.option("--converter", type=click.Choice(["corewatch", "dicom2nifti"]), help="Converter; default: series.converter.")
@click.option("--compare-converters", is_flag=True, help="Also say in the notes where the results of the converters differ.")
@click.option("--qc", is_flag=True, help="Also draw qc.png, which shows how the head was aligned.")
@click.option("--json", "as_json", is_flag=True, help="Accepted for uniformity: the result is always one JSON object.")
@config_option
def run(
    source: Path,
    out: Path,
    aligned: bool,
    model: str | None,
    converter: str | None,
    compare_converters: bool,
    qc: bool,
    as_json: bool,
    config_file: Path | None,
) -> None:
    """Analyse one case here and now. INPUT is a folder with DICOM files, a zip of them, or a NIfTI.

    Prints one JSON object; progress goes to standard error. Exit code 3: not analysed, the object gives the reason. Exit code 2:
    nothing was started, for example because there is no such model.
    """
    from config.logging import configure_logging
    from conversion.converters import ConverterName
    from corewatch.casefolder import CaseFolder
    from corewatch.result import Result
    from worker.foreground import run_case
    from worker.stages.render import write_result

    settings = settings_of(config_file)
    configure_logging(settings.log, "run")
    with _stdout_for_the_answer() as answer:
        try:
            result = run_case(
                source,
                out,
                settings,
                aligned=aligned,
                model=model,
                converter=None if converter is None else ConverterName(converter),
                compare=compare_converters,
                qc=qc,
                progress=_print_progress,
            )
        except ConfigurationError:
            raise
        except Exception as error:
            _log.exception("the case failed")
            result = Result(new_case_id(), CaseState.FAILED, None, detail=f"{type(error).__name__}: {error}")
            with suppress(OSError):  # the disk may be the cause
                write_result(result, CaseFolder(out))
        os.write(answer, (result.dumps() + "\n").encode())
    click.get_current_context().exit(ExitCode.of(result.state))


def _print_progress(message: str) -> None:
    click.echo(message, err=True)


@contextmanager
def _stdout_for_the_answer() -> Iterator[int]:
    """Redirect what libraries write to standard output to standard error; yields a descriptor of the real standard output."""
    sys.stdout.flush()
    real = os.dup(1)
    os.dup2(2, 1)
    try:
        yield real
    finally:
        sys.stdout.flush()
        os.dup2(real, 1)
        os.close(real)
