"""Checks of `corewatch doctor`. Each is small, independent of the others, bounded in time, and names the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from cli.checks.analysis import device, model, workers
from cli.checks.peers import audit, commitment, destinations, sources
from cli.checks.report import Check, Level
from cli.checks.services import broker, ledger, listener, monitor, portal
from cli.checks.settings import running, settings_mistakes
from cli.checks.system import system_checks
from config.settings import Settings

__all__ = ["Check", "Level", "all_checks"]


def all_checks(settings: Settings, now: datetime) -> Iterator[Check]:
    """Run every check, one after the other. One that breaks is reported as an error and stops no other."""
    for subject, check in (
        *system_checks(now),
        ("settings", settings_mistakes),
        ("programs", running),
        ("listener", listener),
        ("broker", broker),
        ("ledger", ledger),
        ("model", model),
        ("device", device),
        ("detect worker", workers),
        ("sources", sources),
        ("destinations", destinations),
        ("commitment", commitment),
        ("queue monitor", monitor),
        ("portal", portal),
        ("audit", audit),
    ):
        try:
            yield from check(settings)
        except Exception as error:
            yield Check.of_failure(subject, error)
