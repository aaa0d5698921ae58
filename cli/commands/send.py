"""`corewatch send`: Storage SCU that sends a folder of DICOM files, for tests and for sending a series again."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from pathlib import Path

import click

from cli.command_group import ExitCode
from cli.options import config_option, json_option, settings_of
from cli.printable import printable

_PREAMBLE = 128


def parse_peer(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[str, int]:
    """Split `HOST:PORT`; an IPv6 address is in brackets."""
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise click.BadParameter(f"{value!r} is not HOST:PORT, for example 192.0.2.7:11112")
    return host.removeprefix("[").removesuffix("]"), int(port)


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, path_type=Path))
@click.argument("peer", metavar="HOST:PORT", callback=parse_peer)
@click.option("--called", default="COREWATCH", show_default=True, metavar="AE", help="AE title of the receiver.")
@click.option("--calling", default="CWSEND", show_default=True, metavar="AE", help="Calling AE title.")
@click.option("--timeout", "timeout_s", default=30.0, show_default=True, help="Longest wait for an answer, in seconds.")
@config_option
@json_option
def send(
    folder: Path, peer: tuple[str, int], called: str, calling: str, timeout_s: float, config_file: Path | None, as_json: bool
) -> None:
    """Send the DICOM files in DIR and its subfolders by C-STORE, over one association.

    Files that are not DICOM are left out.
    """
    from config.logging import configure_logging
    from foundation.dicom_client.storage import StoreOutcome, StoreResult, send_files

    configure_logging(settings_of(config_file).log, "send")
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # our own message holds its facts
    files, left_out = dicom_files(folder)
    if not files:
        raise click.UsageError(f"there is no DICOM file in {folder}")
    counted = Counter[str]()
    terminal = sys.stderr.isatty()

    def note(outcome: StoreOutcome) -> None:
        counted[outcome.result] += 1
        if outcome.result is StoreResult.FAILED:
            status = "not sent" if outcome.status is None else f"0x{outcome.status:04X}"
            click.echo(printable(f"{outcome.path.name}: {status}, {outcome.meaning}"), err=True)
        if terminal:
            click.echo(f"\r{sum(counted.values())}/{len(files)} ", err=True, nl=False)

    outcomes = send_files(
        files, host=peer[0], port=peer[1], called_ae=called, calling_ae=calling, timeout_s=timeout_s, progress=note
    )
    if terminal:
        click.echo("\r", err=True, nl=False)
    failed = counted[StoreResult.FAILED]
    if as_json:
        answer = {"files": len(outcomes), "left_out": left_out} | {str(result): counted[result] for result in StoreResult}
        click.echo(json.dumps(answer))
    else:
        extra = "".join(
            (
                f", {counted[StoreResult.WARNING]} with a warning" if counted[StoreResult.WARNING] else "",
                f", {failed} failed" if failed else "",
                f"; {left_out} files that are not DICOM were left out" if left_out else "",
            )
        )
        click.echo(f"{len(outcomes) - failed} of {len(outcomes)} files stored by {called} at {peer[0]}:{peer[1]}{extra}")
    click.get_current_context().exit(ExitCode.FAILED if failed else ExitCode.DONE)


def dicom_files(folder: Path) -> tuple[list[Path], int]:
    """DICOM files (PS3.10 7.1) in `folder`, or `folder` itself if it is one, sorted by name; and how many other files there are."""
    candidates = [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.is_file())
    chosen = [p for p in candidates if p.name != "DICOMDIR" and _is_part_10(p)]
    return chosen, len(candidates) - len(chosen)


def _is_part_10(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"
