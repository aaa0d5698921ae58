"""Checks of the operating system: packages, clock, data folder, free disk, watch folders, inotify limits."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cli.checks.report import Check
from config.settings import Settings
from corewatch.units import GIB
from foundation.disk import free_bytes

IMPORT_NAMES: Final = (
    "cli",
    "config",
    "conversion",
    "corewatch",
    "daemon",
    "dicom_listener",
    "foundation",
    "jobs",
    "ledger",
    "outputs",
    "phantom",
    "portal",
    "worker",
)
"""Our packages. Some names are common: python-daemon also has a `daemon`."""

RELEASED: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""A clock that shows an earlier time is wrong."""

MIN_INOTIFY_WATCHES: Final = 8192
MIN_INOTIFY_INSTANCES: Final = 16
_INOTIFY: Final = Path("/proc/sys/fs/inotify")
_TIME_ERROR: Final = 5  # adjtimex(2): the clock is not synchronised
_TIMEX_BYTES: Final = 512  # struct timex has 208 on 64-bit Linux


def data_folder(settings: Settings) -> Check:
    """The data folder is writable, and closed to other users."""
    folder = settings.data_dir
    problem = write_problem(folder)
    if problem is not None:
        return Check.error("data folder", problem, "give corewatch's user write access, or set another data_dir")
    if not folder.exists():
        return Check.ok("data folder", f"{folder} is made at the first start")
    if folder.stat().st_mode & (stat.S_IWGRP | stat.S_IRWXO):
        return Check.warning("data folder", f"{folder} holds patients' images and is open to other users", f"chmod 750 {folder}")
    return Check.ok("data folder", f"{folder} is writable")


def free_space(settings: Settings) -> Check:
    """Free disk is above the listener's reserve and the retention threshold."""
    free = free_bytes(existing_parent(settings.data_dir)) / GIB
    reserve, wanted = settings.listener.reserve_gib, settings.retention.free_gib
    if free <= reserve:
        return Check.error(
            "free disk",
            f"{free:.1f} GiB free; the listener refuses images below {reserve:g} GiB (0xA700)",
            "free disk space, move data_dir to a larger disk, or lower listener.reserve_gib",
        )
    if free <= wanted:
        return Check.warning(
            "free disk",
            f"{free:.1f} GiB free; below {wanted:g} GiB delivered cases are removed earlier than retention.delivered_days",
            "free disk space, or lower retention.free_gib",
        )
    return Check.ok("free disk", f"{free:.1f} GiB")


def watch_folders(settings: Settings) -> list[Check]:
    """Every watched folder is writable, because ingested files are moved out of it."""
    checks = []
    for watched in settings.watch.folders:
        problem = write_problem(watched.path)
        if problem is not None:
            checks.append(
                Check.error("watch folder", problem, "give corewatch's user read and write access, or remove it from watch.folders")
            )
        elif watched.path.exists():
            checks.append(Check.ok("watch folder", f"{watched.path} is writable"))
        else:
            checks.append(Check.ok("watch folder", f"{watched.path} is made at the first start"))
    return checks


def inotify_limits(settings: Settings, limits: Path = _INOTIFY) -> Check:
    """The kernel allows enough inotify watches; a missed file is found later, by the rescan."""
    subject = "file events"
    if settings.watch.polling == "always":
        return Check.ok(subject, "not used: watch.polling is always")
    try:
        watches = int((limits / "max_user_watches").read_text())
        instances = int((limits / "max_user_instances").read_text())
    except (OSError, ValueError):
        return Check.ok(subject, f"no inotify on this system; folders are scanned every {settings.watch.rescan_s:g} s")
    if watches < MIN_INOTIFY_WATCHES or instances < MIN_INOTIFY_INSTANCES:
        return Check.warning(
            subject,
            f"the kernel allows {watches} inotify watches and {instances} instances per user, which may not be enough",
            f"sysctl fs.inotify.max_user_watches={8 * MIN_INOTIFY_WATCHES} "
            f"fs.inotify.max_user_instances={8 * MIN_INOTIFY_INSTANCES}",
        )
    return Check.ok(subject, f"{watches} watches allowed")


def clock(now: datetime, newest_file: datetime | None = None, synchronised: bool | None = None) -> Check:
    """The clock is plausible: results hold times, and idle time decides when a series is complete.

    Parameters
    ----------
    now
        Time of the machine's clock.
    newest_file
        Time of the newest file in the data folder.
    synchronised
        See `kernel_clock_synchronised`.
    """
    subject, remedy = "clock", "set the clock, and run a time service (chrony, systemd-timesyncd)"
    if now < RELEASED:
        return Check.error(subject, f"it shows {now:%Y-%m-%d %H:%M} UTC, which is too early", remedy)
    if newest_file is not None and newest_file > now + timedelta(minutes=5):
        return Check.error(subject, f"a file is newer ({newest_file:%Y-%m-%d %H:%M} UTC): the clock was set back", remedy)
    if synchronised is False:
        return Check.warning(subject, "no time service synchronises it", remedy)
    return Check.ok(subject, f"{now:%Y-%m-%d %H:%M} UTC" + (", synchronised by a time service" if synchronised else ""))


def kernel_clock_synchronised() -> bool | None:
    """Whether a time service synchronises the clock (adjtimex(2), read only); None where the kernel does not say."""
    try:
        state = int(ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def newest_file_time(folder: Path) -> datetime | None:
    """Time of the newest entry directly in `folder`; None where there is none."""
    try:
        newest = max((entry.stat().st_mtime for entry in os.scandir(folder)), default=None)
    except OSError:
        return None
    return None if newest is None else datetime.fromtimestamp(newest, UTC)


def import_names(names: Iterable[str] = IMPORT_NAMES) -> Check:
    """The imported packages are corewatch's, not another distribution's of the same name."""
    ours = Path(__file__).resolve().parents[2]
    foreign = []
    for name in names:
        spec = importlib.util.find_spec(name)
        places = (
            [] if spec is None else [Path(place).resolve() for place in spec.submodule_search_locations or [spec.origin or "?"]]
        )
        if ours / name not in places:
            foreign.append(f"{name} is " + (f"taken from {places[0]}" if places else "not there"))
    if foreign:
        return Check.error(
            "packages",
            "; ".join(foreign),
            "install corewatch into a separate virtual environment or image, without other distributions such as python-daemon",
        )
    return Check.ok("packages", "all are corewatch's own")


def write_problem(folder: Path) -> str | None:
    """Why `folder` cannot be made or written; None if it can. Leaves no file."""
    parent = existing_parent(folder)
    if not parent.is_dir():
        return f"{parent} is not a folder"
    if parent != folder:
        return None if os.access(parent, os.W_OK | os.X_OK) else f"{folder} cannot be made: {parent} may not be written"
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return f"{folder} cannot be written: {error.strerror}"


def existing_parent(path: Path) -> Path:
    """`path`, or the nearest folder above it that exists."""
    path = path.absolute()
    return next(p for p in (path, *path.parents) if p.exists())


def surroundings(environment: Mapping[str, str] = os.environ, root: Path = Path("/")) -> list[Check]:
    """What these checks cannot see, because they run in a container or in a unit of systemd."""
    subject = "surroundings"
    if any((root / mark).exists() for mark in (".dockerenv", "run/.containerenv")) or environment.get("container"):
        unseen = "programs, ports and disks of other containers and of the host are not seen"
        return [Check.ok(subject, f"in a container: {unseen}")]
    if environment.get("INVOCATION_ID"):
        unseen = "what the sandbox of this unit hides is not seen, and another unit may have other rights, paths and secrets"
        return [Check.ok(subject, f"in a unit of systemd: {unseen}")]
    return []


def system_checks(now: datetime) -> list[tuple[str, Callable[[Settings], Iterable[Check]]]]:
    """Subject and function of all checks of this module."""
    return [
        ("surroundings", lambda _settings: surroundings()),
        ("packages", lambda _settings: [import_names()]),
        ("clock", lambda settings: [clock(now, newest_file_time(settings.data_dir), kernel_clock_synchronised())]),
        ("data folder", lambda settings: [data_folder(settings)]),
        ("free disk", lambda settings: [free_space(settings)]),
        ("watch folder", watch_folders),
        ("file events", lambda settings: [inotify_limits(settings)]),
    ]
