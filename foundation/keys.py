"""Keys of this installation's own: made once, kept in the data folder, readable by the owner only."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path
from typing import Final

from corewatch.errors import ConfigurationError
from foundation.durable import create_once

_FILE: Final = "own.key"
_BYTES: Final = 32


def own_key(data_dir: Path, purpose: str) -> bytes:
    """A key of 32 bytes for one purpose: the same for every program that works on this data folder.

    Raises
    ------
    ConfigurationError
        The file is there and holds no key.
    """
    path = data_dir / _FILE
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        create_once(path, secrets.token_bytes(_BYTES))
    held = path.read_bytes()
    if len(held) != _BYTES:
        raise ConfigurationError(f"{path} should hold {_BYTES} bytes", "remove it, and links in mails that are out become invalid")
    return hmac.new(held, purpose.encode(), hashlib.sha256).digest()
