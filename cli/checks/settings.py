"""Checks of the settings: mistakes that `corewatch config check` refuses, and that `doctor` reports."""

from __future__ import annotations

from collections.abc import Iterator

from cli.checks.report import Check
from cli.running import RESTART
from config.mistakes import Mistake, mistakes
from config.running_programs import outdated_programs, running_programs
from config.settings import Settings
from corewatch import __version__
from corewatch.clock import utc_now
from jobs.broker_url import broker_url_problem
from ledger.database_url import database_url_problem


def all_mistakes(settings: Settings) -> list[Mistake]:
    """Every mistake in the settings."""
    found = list(mistakes(settings))
    for key, url, judge in (
        ("broker.url", settings.broker.url, broker_url_problem),
        ("database.url", settings.database.url, database_url_problem),
    ):
        if url is not None and (problem := judge(url.get_secret_value())) is not None:
            found.append(Mistake(key, *problem))
    return found


def settings_mistakes(settings: Settings) -> Iterator[Check]:
    """The settings hold no mistake."""
    for one in all_mistakes(settings):
        yield Check.error("settings", f"{one.key}: {one.problem}", one.remedy)


def running(settings: Settings) -> Iterator[Check]:
    """Every running program has the present settings and version."""
    programs = running_programs(settings.data_dir)
    now = utc_now()
    old = outdated_programs(settings.data_dir)
    for one in old:
        yield Check.error(one.program.name, one.sentence(now), RESTART)
    if programs and not old:
        names = ", ".join(program.name for program in programs)
        yield Check.ok("programs", f"run with the present settings and version {__version__}: {names}")
