"""Which settings and version each running program has: published at its start, compared with the present settings file.

A program reads its settings once. It leaves a file in the data folder (`programs/`) with a keyed digest of each value, so that
others can name the keys that were changed since, without knowing the values. The file is locked while the program lives.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from config.loading import PREFIX, load_settings
from config.section import Section
from config.settings import Settings
from corewatch import __version__
from corewatch.clock import utc_now
from corewatch.errors import ConfigurationError
from foundation.durable import OWNER, write_durably
from foundation.keys import installation_key
from foundation.lock import LifeLock, holder_is_gone

FOLDER: Final = "programs"

NOT_READ: Final[Mapping[str, frozenset[str]]] = {
    "up": frozenset(
        {"listener", "watch", "sources", "series", "database", "model", "deliver", "work", "audit", "retention", "log"}
    ),
    "listen": frozenset(
        {"watch", "series", "broker", "database", "model", "work", "flower", "portal", "audit", "retention", "sources"}
    ),
    "watch": frozenset({"flower", "model"}),
    "work": frozenset({"flower", "watch", "retention", "audit", "sources"}),
    "flower": frozenset({"listener", "watch", "sources", "series", "database", "model", "deliver", "portal", "audit", "retention"}),
}
"""Program -> sections that it does not read, so that a change there needs no restart of it."""

_STALE_S: Final = 60.0
"""Age from which a file without a living writer is removed; a younger one may not be locked yet."""


@dataclass(frozen=True, slots=True)
class RunningProgram:
    """What one running program has published.

    Attributes
    ----------
    name
        As in its log lines: `listen`, `watch`, `work-detect`, ...
    pid
        Process id on its own host or in its own container.
    started_at
        When it read its settings.
    settings_file
        Absolute path, or None for built-in values.
    digests
        Key of the setting -> keyed digest of its value.
    from_environment
        Keys that its environment sets; they may differ from program to program.
    """

    name: str
    pid: int
    version: str
    started_at: datetime
    settings_file: str | None
    digests: Mapping[str, str]
    from_environment: frozenset[str]


@dataclass(frozen=True, slots=True)
class Outdated:
    """A running program that has an earlier version, or earlier settings.

    Attributes
    ----------
    keys
        Keys of the settings that were changed since it started.
    """

    program: RunningProgram
    keys: tuple[str, ...]

    def sentence(self, now: datetime) -> str:
        """What is outdated, with local time: `runs with settings of 21:29 (changed since: model.name)`."""
        started, today = self.program.started_at.astimezone(), now.astimezone()
        since = f"{started:%H:%M}" if started.date() == today.date() else f"{started:%Y-%m-%d %H:%M}"
        parts = []
        if self.program.version != __version__:
            parts.append(f"runs version {self.program.version}, and {__version__} is installed")
        if self.keys:
            more = f" and {len(self.keys) - 3} more" if len(self.keys) > 3 else ""
            parts.append(f"runs with settings of {since} (changed since: {', '.join(self.keys[:3])}{more})")
        return "; ".join(parts)


class Publication:
    """File of one running program; `withdraw` removes it. The program's end leaves it unlocked."""

    def __init__(self, settings: Settings, file: Path | None, program: str) -> None:
        folder = settings.data_dir / FOLDER
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_stale(folder)
        self._path = folder / f"{program}.{os.getpid()}.{os.urandom(4).hex()}.json"
        content = {
            "name": program,
            "pid": os.getpid(),
            "version": __version__,
            "started_at": utc_now().isoformat(),
            "settings_file": None if file is None else str(file),
            "digests": digests(settings, settings.data_dir),
            "from_environment": sorted(environment_keys(os.environ)),
        }
        write_durably(self._path, json.dumps(content).encode(), mode=OWNER)
        self._lock, self._pid = LifeLock(self._path), os.getpid()

    def withdraw(self) -> None:
        """Remove the file; in a forked child nothing, since the file is its parent's."""
        if os.getpid() == self._pid:
            self._lock.release()


def publish(settings: Settings, file: Path | None, program: str) -> Publication | None:
    """Publish what this program runs with; None where the data folder cannot be written, which other code reports."""
    try:
        return Publication(settings, file, program)
    except OSError:
        return None


def running_programs(data_dir: Path) -> list[RunningProgram]:
    """Every program that runs in this data folder and has published itself, by name."""
    found = []
    for path in sorted((data_dir / FOLDER).glob("*.json")):
        if holder_is_gone(path):
            continue
        with suppress(OSError, ValueError, KeyError, TypeError):
            found.append(_parsed(json.loads(path.read_bytes())))
    return found


def outdated_programs(data_dir: Path) -> list[Outdated]:
    """Programs that run in this data folder with another version, or with other settings than their settings file has now.

    A program whose settings file cannot be loaded now is not among them: `corewatch config check` says why.
    """
    programs = running_programs(data_dir)
    found = []
    for file in dict.fromkeys(program.settings_file for program in programs):
        with suppress(ConfigurationError, OSError):
            settings = load_settings(None if file is None else Path(file), search=False)
            found += compare(settings, data_dir, [program for program in programs if program.settings_file == file])
    return sorted(found, key=lambda one: one.program.name)


def compare(settings: Settings, data_dir: Path, programs: Iterable[RunningProgram]) -> list[Outdated]:
    """Those of `programs` that differ from `settings`, or from the installed version."""
    present, ours = digests(settings, data_dir), environment_keys(os.environ)
    found = []
    for program in programs:
        keys = changed_keys(program.digests, present, program.from_environment | ours)
        concerned = tuple(key for key in keys if is_read_by(program.name, key))
        if concerned or program.version != __version__:
            found.append(Outdated(program, concerned))
    return found


def changed_keys(before: Mapping[str, str], now: Mapping[str, str], unknown: frozenset[str] = frozenset()) -> list[str]:
    """Keys whose value differs, sorted; those that are or lie below a key of `unknown` are left out.

    >>> changed_keys({"model.name": "a", "log.level": "b"}, {"model.name": "c", "log.level": "b", "log.format": "d"})
    ['log.format', 'model.name']
    >>> changed_keys({"broker.url": "a"}, {}, frozenset({"broker.url"}))
    []
    """
    differ = {key for key in before.keys() | now.keys() if before.get(key) != now.get(key)}
    return sorted(key for key in differ if not any(f"{key}.".startswith(f"{one}.") for one in unknown))


def is_read_by(program: str, key: str) -> bool:
    """Whether a program reads the section of a key."""
    return key.partition(".")[0] not in NOT_READ.get(program.partition("-")[0], frozenset())


def digests(settings: Settings, data_dir: Path) -> dict[str, str]:
    """Key of every setting, and of every model's manifest -> digest of its value, keyed by the installation in `data_dir`."""
    key = installation_key(data_dir, "settings")
    values = dict(_flat("", settings))
    for name in settings.model_names:
        with suppress(OSError):
            values[f"model.installed.{name}"] = (settings.models_dir / name / "manifest.json").read_text()
    return {name: hmac.new(key, repr(value).encode(), hashlib.sha256).hexdigest()[:16] for name, value in values.items()}


def environment_keys(environ: Mapping[str, str]) -> frozenset[str]:
    """Keys that the environment sets: `COREWATCH__MODEL__NAME` is `model.name`."""
    return frozenset(name.removeprefix(PREFIX).lower().replace("__", ".") for name in environ if name.startswith(PREFIX))


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Section):
        for name, field in type(value).model_fields.items():
            yield from _flat(f"{path}.{field.alias or name}".lstrip("."), getattr(value, name))
    elif isinstance(value, tuple) and any(isinstance(one, Section) for one in value):
        for number, one in enumerate(value):
            yield from _flat(f"{path}.{number}", one)
    else:
        yield path, value.get_secret_value() if isinstance(value, SecretStr) else value


def _parsed(data: dict[str, Any]) -> RunningProgram:
    return RunningProgram(
        name=str(data["name"]),
        pid=int(data["pid"]),
        version=str(data["version"]),
        started_at=datetime.fromisoformat(data["started_at"]),
        settings_file=data["settings_file"],
        digests={str(k): str(v) for k, v in data["digests"].items()},
        from_environment=frozenset(map(str, data["from_environment"])),
    )


def _remove_stale(folder: Path) -> None:
    now = utc_now().timestamp()
    for path in folder.glob("*.json"):
        with suppress(OSError):
            if now - path.stat().st_mtime > _STALE_S and holder_is_gone(path):
                path.unlink()
