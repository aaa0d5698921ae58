"""The data folder of a running corewatch: permissions, generated password, URL of the private broker."""

from __future__ import annotations

import logging
import os
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corewatch.errors import ConfigurationError
from foundation.durable import OWNER, write_durably

if TYPE_CHECKING:
    from config.settings import Settings

UMASK: Final = 0o027
"""Files about patients are writable by their owner, readable by the group, and closed to everyone else."""

_log = logging.getLogger(__name__)


def restrict_new_files() -> None:
    """Set the umask of this process and its children to `UMASK`, or keep it where it is stricter."""
    os.umask(os.umask(UMASK) | UMASK)


def make_private(folder: Path) -> None:
    """Make a missing folder, open to its owner alone; remove the permissions that `UMASK` forbids from one that is ours.

    Raises
    ------
    OSError
        The folder is missing and cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    mode = stat.S_IMODE(status.st_mode)
    if not mode & UMASK:
        return
    if status.st_uid != os.geteuid():
        _log.warning("the data folder is open to other users, and belongs to another user who must close it")
        return
    folder.chmod(mode & ~UMASK)


def password_file(data_dir: Path) -> Path:
    """File of the generated password of the queue monitor."""
    return data_dir / "flower-password"


def flower_password(settings: Settings) -> str:
    """Password of the queue monitor: `flower.password`, else a generated one, kept in the data folder for its owner alone.

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


def broker_url(settings: Settings) -> str:
    """URL of the broker: `broker.url`, else that of the private Redis of a running `corewatch up`.

    Raises
    ------
    ConfigurationError
        There is neither, or corewatch cannot use the URL.
    """
    if settings.broker.url is not None:
        from jobs.broker_url import broker_url_problem, with_verified_tls

        url = settings.broker.url.get_secret_value()
        if (wrong := broker_url_problem(url)) is not None:
            raise ConfigurationError(f"broker.url: {wrong[0]}", wrong[1])
        return with_verified_tls(url, settings.broker.authority)
    from jobs.embedded import running_url

    running = running_url(settings.data_dir / "redis")
    if running is None:
        raise ConfigurationError("there is no broker", "set broker.url to your Redis, or start `corewatch up`, which starts one")
    return running
