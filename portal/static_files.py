"""Static files of the portal: scripts, styles, vendored libraries; compressed once, and named with their content's hash."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

STATIC_FOLDER: Final = Path(__file__).parent / "static"

_KINDS: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    "": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file: its bytes, the same compressed, its type, and the start of its SHA-256."""

    content: bytes
    compressed: bytes
    kind: str
    version: str


@cache
def static_files() -> dict[str, StaticFile]:
    """Every file by its path relative to the static folder; nothing else is ever read."""
    found = {}
    for path in sorted(STATIC_FOLDER.rglob("*")):
        if path.is_file() and path.suffix in _KINDS and not path.name.startswith("."):
            content = path.read_bytes()
            version = hashlib.sha256(content).hexdigest()[:12]
            name = path.relative_to(STATIC_FOLDER).as_posix()
            found[name] = StaticFile(content, gzip.compress(content, 6, mtime=0), _KINDS[path.suffix], version)
    return found


def static_address(name: str) -> str:
    """Path of a file with its version, such as `/static/app.css?v=0123456789ab`. Raises `KeyError` for an unknown one."""
    return f"/static/{name}?v={static_files()[name].version}"
