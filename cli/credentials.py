"""The password of the queue's web monitor."""

from __future__ import annotations

import secrets
from pathlib import Path

from config.settings import Settings
from foundation.durable import OWNER, write_durably

FILE_NAME = "flower-password"


def password_file(data_dir: Path) -> Path:
    """Where a generated password is kept."""
    return data_dir / FILE_NAME


def flower_password(settings: Settings) -> str:
    """The configured password, else the one in the data folder, which is made (readable by the owner only) where there is none.

    Raises
    ------
    OSError
        The data folder cannot be written.
    """
    if settings.flower.password is not None:
        return settings.flower.password.get_secret_value()
    path = password_file(settings.data_dir)
    try:
        known = path.read_text().strip()
    except FileNotFoundError:
        known = ""
    if known:
        return known
    path.parent.mkdir(parents=True, exist_ok=True)
    password = secrets.token_urlsafe(18)
    write_durably(path, f"{password}\n".encode(), mode=OWNER)
    return password
