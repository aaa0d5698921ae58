"""Secret key of this installation: generated once, stored in the data folder, readable by the owner only."""

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


def installation_key(data_dir: Path, purpose: str) -> bytes:
    """Key of 32 bytes for one purpose, derived from the stored key (HMAC-SHA256); all programs of a data folder get the same.

    Raises
    ------
    ConfigurationError
        The key file has the wrong length.
    """
    path = data_dir / _FILE
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        create_once(path, secrets.token_bytes(_BYTES))
    held = path.read_bytes()
    if len(held) != _BYTES:
        raise ConfigurationError(f"{path} must have {_BYTES} bytes", "remove it; links in mails that were sent become invalid")
    return hmac.new(held, purpose.encode(), hashlib.sha256).digest()
