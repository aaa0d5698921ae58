"""One daemon per data folder: two would take the same images in at the same time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from corewatch.errors import ConfigurationError

LOCK_FILE = "daemon.lock"


@contextmanager
def only_daemon(data_dir: Path) -> Iterator[None]:
    """Hold the data folder's lock; the system releases it when the process ends, however it ends.

    Raises
    ------
    ConfigurationError
        Another daemon holds it, or the folder cannot be written.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise ConfigurationError(
            f"data_dir: the folder cannot be written ({error.strerror})", "give corewatch's user the right"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise ConfigurationError(
                f"data_dir: another corewatch daemon (process {holder}) works in this folder", "stop it, or set another data_dir"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
