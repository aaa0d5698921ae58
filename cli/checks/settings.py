"""Checks of the settings: mistakes that `corewatch config check` refuses, and that `doctor` reports."""

from __future__ import annotations

from collections.abc import Iterator

from cli.checks.report import Check
from config.mistakes import Mistake, mistakes
from config.settings import Settings
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
