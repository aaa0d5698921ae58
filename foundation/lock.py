"""Locks between processes (flock(2)): one `corewatch up` and one daemon per data folder, one installer per models folder.

The kernel releases a lock when its process ends, however it ends. A program that a holder starts does not inherit it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from corewatch.errors import ConfigurationError

UP_LOCK: Final = "up.lock"
DAEMON_LOCK: Final = "daemon.lock"
"""Names in the data folder. The file holds the process id of the holder, and stays."""

_PID_BYTES: Final = 32


@contextmanager
def sole_program(data_dir: Path, lock_file: str, program: str) -> Iterator[None]:
    """Hold the data folder as the only process of a program.

    Parameters
    ----------
    lock_file
        `UP_LOCK` or `DAEMON_LOCK`.
    program
        Its name in the error.

    Raises
    ------
    ConfigurationError
        Another process of this program holds it, or the folder cannot be written.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(data_dir / lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise ConfigurationError(
            f"data_dir: {data_dir} cannot be written ({error.strerror})", "give corewatch's user write access"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, _PID_BYTES, 0).decode(errors="replace").strip() or "unknown"
            raise ConfigurationError(
                f"data_dir: another {program} (process {holder}) uses {data_dir}", "stop it, or set another data_dir"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold an existing file or folder exclusively.

    Raises
    ------
    BlockingIOError
        Another process holds it and `wait` is False.
    FileNotFoundError
        It does not exist.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether another holder has it, or has just removed it."""
    try:
        with locked(path, wait=False):
            return False
    except (BlockingIOError, FileNotFoundError):
        return True


class LifeLock:
    """A lock file that shows that its writer lives: held until `release`, or until the process ends, in any way.

    A file system without locks gets no file; then nobody can tell whether the writer lives.

    Raises
    ------
    OSError
        The file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # read-only and shared: a file that is open for writing keeps a disk from being mounted read-only
        self._descriptor: int | None = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            self.release()

    def release(self) -> None:
        """Remove the file and let go. Does nothing the second time."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        self.abandon()

    def abandon(self) -> None:
        """Let go and leave the file, as the end of the process does."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def holder_is_gone(path: Path) -> bool:
    """Whether a `LifeLock` was left by a process that has ended. False where that is unknown."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)  # NFS grants an exclusive lock only to a writer
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
