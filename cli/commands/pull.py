"""`corewatch pull`: fetches a study from a PACS (C-FIND, C-MOVE, C-GET)."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.command_group import ExitCode, UsageProblem
from cli.options import config_option, json_option, settings_of

if TYPE_CHECKING:
    from config.settings import Settings
    from config.sources import Source
    from foundation.dicom_client.query import FoundSeries

WANTED = "CT"
"""Modality of the series that are fetched."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """One fetched series, and how many of its instances arrived."""

    study_uid: str
    series_uid: str
    description: str
    instances: int | None
    completed: int
    failed: int


@click.command()
@click.option("--study", "study_uid", default="", metavar="UID", help="Study Instance UID.")
@click.option("--accession", default="", metavar="NUMBER", help="Accession number, instead of the UID.")
@click.option("--from", "name", metavar="NAME", help="Which of `sources`; may be left out where there is one.")
@config_option
@json_option
def pull(study_uid: str, accession: str, name: str | None, config_file: Path | None, as_json: bool) -> None:
    """Fetch the CT series of a study from a PACS.

    The PACS sends them to the running listener (C-MOVE), or to this command (C-GET); a CTA head is then analysed like any other
    that arrives.
    """
    from config.logging import configure_logging

    study_uid, accession = study_uid.strip(), accession.strip()
    _check_request(study_uid, accession)
    settings = settings_of(config_file)
    source = _source(settings, name)
    configure_logging(settings.log, "pull")
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # our own message holds its facts
    series = _series(settings, source, study_uid, accession)
    wanted = [one for one in series if one.modality == WANTED]
    if not as_json:
        left_out = f"; {len(series) - len(wanted)} of other modalities are left out" if len(wanted) < len(series) else ""
        click.echo(f"{source.name} has {len(wanted)} {WANTED} series of this study{left_out}", err=True)
    pulled = [_pull(settings, source, one, quiet=as_json) for one in wanted]
    _print(source, pulled, left_out=len(series) - len(wanted), as_json=as_json)
    missing = any(p.failed or (p.instances or 0) > p.completed for p in pulled)
    click.get_current_context().exit(ExitCode.FAILED if missing else ExitCode.DONE if pulled else ExitCode.NOT_ANALYSED)


def _check_request(study_uid: str, accession: str) -> None:
    if bool(study_uid) == bool(accession):
        raise click.UsageError("name the study: either --study UID or --accession NUMBER")
    if study_uid and not set(study_uid) <= set("0123456789."):
        raise click.BadParameter(f"{study_uid!r} is not a UID", param_hint="--study")
    if set(accession) & set("*?\\"):
        raise click.BadParameter("wildcards are not allowed: they would fetch other patients' studies", param_hint="--accession")


def _source(settings: Settings, name: str | None) -> Source:
    known = {source.name: source for source in settings.sources}
    if not known:
        raise UsageProblem("the settings name no PACS to fetch from", "add one to `sources`")
    if name is None:
        if len(known) > 1:
            raise UsageProblem("`sources` has several", f"choose one with --from {' | '.join(sorted(known))}")
        name = next(iter(known))
    if name not in known:
        raise UsageProblem(f"there is no source {name!r}", f"`sources` has {', '.join(sorted(known))}")
    return known[name]


def _series(settings: Settings, source: Source, study_uid: str, accession: str) -> list[FoundSeries]:
    from corewatch.errors import OperatorNeeded
    from foundation.dicom_client.query import find_series, find_studies

    peer = source.address(settings.listener.ae_title)
    studies = find_studies(peer, study_uid=study_uid, accession=accession)
    if not studies:
        what = "study" if study_uid else "accession number"
        raise OperatorNeeded(
            f"{peer} does not know this {what}", f"check it, and that our AE title {peer.calling_ae!r} may see it there"
        )
    return [series for study in studies for series in find_series(peer, study)]


def _pull(settings: Settings, source: Source, series: FoundSeries, *, quiet: bool) -> Pulled:
    from dicom_listener.c_get import get_into_spool
    from foundation.dicom_client.retrieve import MoveDestination, SubOperations, move_series

    peer = source.address(settings.listener.ae_title, silence_s=source.retrieve_timeout_s)
    terminal = sys.stderr.isatty() and not quiet

    def progress(so_far: SubOperations) -> None:
        if terminal:
            click.echo(f"\r{so_far.completed}/{series.instances or '?'} ", err=True, nl=False)

    if source.retrieve == "get":
        got = get_into_spool(peer, series, settings, progress)
    else:
        listener = MoveDestination(settings.listener.ae_title, settings.listener.port)
        got = move_series(peer, series, listener, progress)
    if terminal:
        click.echo("\r", err=True, nl=False)
    return Pulled(series.study_uid, series.series_uid, series.description, series.instances, got.completed, got.failed)


def _print(source: Source, pulled: Sequence[Pulled], *, left_out: int, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"source": source.name, "series": [asdict(p) for p in pulled], "left_out": left_out}))
        return
    for one in pulled:
        missing = f", {one.failed} failed; check that the listener runs and {source.name} reaches it" if one.failed else ""
        click.echo(
            f"{one.description or 'series without a description'}: {one.completed} of {one.instances or '?'} images{missing}"
        )
    if not pulled:
        click.echo(f"there is no {WANTED} series in this study: nothing to analyse")
