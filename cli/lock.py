"""One `corewatch up` per data folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from corewatch.errors import ConfigurationError


@contextmanager
def sole_user(data_dir: Path) -> Iterator[None]:
    """Hold the data folder; the kernel lets go of it when the process ends, however it ends.

    Raises
    ------
    ConfigurationError
        Another `corewatch up` holds it.
    """
    # O_CLOEXEC is Python's default: children do not keep the lock alive
    descriptor = os.open(data_dir / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            raise ConfigurationError(
                f"data_dir: {data_dir} is in use by another `corewatch up` (process {holder or 'unknown'})",
                "stop it, or give this one a data folder of its own",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)
