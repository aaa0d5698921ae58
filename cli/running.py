"""Programs that run with earlier settings or another version, in sentences for the log, `doctor`, Flower and `reload`."""

from __future__ import annotations

import logging
from pathlib import Path

from config.running_programs import outdated_programs
from config.settings import Settings
from corewatch.clock import utc_now

_log = logging.getLogger(__name__)

RESTART = "restart it: `corewatch reload` under `corewatch up`, else its systemd unit or container"


def outdated_sentences(data_dir: Path) -> list[str]:
    """One sentence per program that has to be restarted, such as `listen runs with settings of 21:29 (changed since: ...)`."""
    now = utc_now()
    return [f"{one.program.name} {one.sentence(now)}; restart it" for one in outdated_programs(data_dir)]


def log_changes(settings: Settings, program: str) -> None:
    """Log what a restart of this program would change; it reads its settings only when it starts."""
    mine = [one for one in outdated_programs(settings.data_dir) if one.program.name == program]
    if not mine:
        _log.info("SIGHUP: the settings of this program have not changed")
    for one in mine:
        _log.warning("SIGHUP: this program %s; restart it to apply them", one.sentence(utc_now()))
