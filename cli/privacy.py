"""What programs write about patients is for their user and group alone, whatever the shell or container that starts them says."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from typing import Final

UMASK: Final = 0o027
"""Files of ours are writable by their owner, readable by the group, and closed to everyone else."""

log = logging.getLogger(__name__)


def restrict_new_files() -> None:
    """Set the umask of this process and its children to `UMASK`, or leave it where it is stricter."""
    os.umask(os.umask(UMASK) | UMASK)


def keep_private(folder: Path) -> None:
    """Make the folder, for its owner alone, where it is missing; take away what `UMASK` forbids where it is there and ours.

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
        log.warning("the data folder is open to other users and not ours to close")
        return
    folder.chmod(mode & ~UMASK)
