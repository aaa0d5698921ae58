"""Backup folder: a snapshot of the ledger, the files of the data folder, and a manifest with their digests, which is written last.

    backup.json          version, time, path, size and SHA-256 of every file
    ledger.sqlite        the ledger
    settings.yaml        the settings file, for reference
    data/                received images, cases, models, keys

The ledger is copied first. Files are written before the ledger names them and are never changed once it does, so what the snapshot
names is among the files that are copied afterwards; what is newer is indexed or made again after a restore.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from config.settings import Settings
from corewatch import __version__
from corewatch.errors import ConfigurationError, CorewatchError
from foundation.durable import OWNER, PARTIAL_SUFFIX, sync_folder, write_durably
from ledger.snapshot import refuse_existing_ledger, restore_snapshot, write_snapshot

MANIFEST: Final = "backup.json"
LEDGER_FILE: Final = "ledger.sqlite"
SETTINGS_FILE: Final = "settings.yaml"
DATA: Final = "data"
FORMAT: Final = 1

_NOT_COPIED: Final = frozenset({"redis", "flower-history", "servers-away.json"})
"""Entries of the data folder that a start makes again."""

_SQLITE_ENDS: Final = ("wal", "shm", "journal")
"""Ends of the names of files that belong to a SQLite file."""

_CHUNK: Final = 1 << 20


class BackupFailed(CorewatchError):
    """A backup or a restore did not finish; what it had written is removed."""


@dataclass(frozen=True, slots=True)
class BackedUpFile:
    """One file of a backup; `path` is relative to its folder."""

    path: str
    size: int
    sha256: str
    mode: int


@dataclass(frozen=True, slots=True)
class Report:
    """What was backed up or restored."""

    folder: str
    files: int
    size: int
    cases: int | None = None


def back_up(settings: Settings, settings_file: Path | None, folder: Path, now: datetime) -> Report:
    """Write a backup into a folder that is empty or does not exist.

    Raises
    ------
    ConfigurationError
        The folder is not empty or lies in the data folder, or there is no ledger.
    BackupFailed
        The disk is full, or the database cannot be read.
    """
    folder = folder.absolute()
    data = settings.data_dir.resolve()
    if folder.resolve().is_relative_to(data):
        raise ConfigurationError(f"{folder} lies in the data folder {data}", "give a folder on another disk")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(f"{folder} is not empty", "give a folder that is empty or does not exist")
    made = not folder.exists()
    ledger = Path(make_url(settings.database_url).database or "").resolve()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_snapshot(settings.database_url, folder / LEDGER_FILE)
        (folder / LEDGER_FILE).chmod(OWNER)
        files = [_described(folder, folder / LEDGER_FILE)]
        if settings_file is not None:
            shutil.copyfile(settings_file, folder / SETTINGS_FILE)
            (folder / SETTINGS_FILE).chmod(OWNER)
            files.append(_described(folder, folder / SETTINGS_FILE))
        for source, name in _files_below(data):
            if source.parent == ledger.parent and source.name in {ledger.name, *(f"{ledger.name}-{end}" for end in _SQLITE_ENDS)}:
                continue
            with suppress(FileNotFoundError):  # retention removes files meanwhile, of cases that have ended
                files.append(_copy(source, folder, f"{DATA}/{name}"))
        _sync_folders(folder)
        manifest = {"format": FORMAT, "corewatch": __version__, "at": now.isoformat(), "files": [asdict(one) for one in files]}
        write_durably(folder / MANIFEST, json.dumps(manifest).encode(), mode=OWNER)
    except (OSError, SQLAlchemyError, sqlite3.Error, ConfigurationError) as error:
        _empty(folder, remove=made)
        raise _failure("backup", error) from error
    return Report(str(folder), len(files), sum(one.size for one in files))


def restore(settings: Settings, folder: Path) -> Report:
    """Restore a backup into an empty data folder and a database without a ledger.

    Every file is compared with the manifest before anything counts as restored.

    Raises
    ------
    ConfigurationError
        `folder` holds no complete backup, or the data folder or the database is not empty, or a later version made the backup.
    BackupFailed
        A file of the backup is damaged, the disk is full, or the database cannot be written. What was restored is removed.
    """
    files = read_manifest(folder)
    data = settings.data_dir
    names = {Path(one.path).parts[1] for one in files if Path(one.path).parts[0] == DATA}
    present = sorted(name for name in names if _has_content(data / name))
    if present:
        raise ConfigurationError(
            f"data_dir: {data} already holds {', '.join(present)}",
            "restore into an empty data folder, or move the present one away",
        )
    made: list[Path] = []
    try:
        refuse_existing_ledger(settings.database_url)
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = data.stat()
        for one in files:
            if one.path.startswith(f"{DATA}/"):
                top = data / Path(one.path).parts[1]
                if top not in made:
                    made.append(top)
                _copy_back(folder, one, data / Path(one.path).relative_to(DATA))
        cases = _restore_ledger(folder, next(one for one in files if one.path == LEDGER_FILE), settings.database_url)
        if settings.database.url is None:
            made += data.glob("ledger.sqlite*")
        for top in made:
            _give_to(top, owner)
            if top.is_dir():
                _sync_folders(top)
        sync_folder(data)
    except (OSError, SQLAlchemyError, sqlite3.Error, CorewatchError) as error:
        for top in made:
            shutil.rmtree(top, ignore_errors=True) if top.is_dir() else top.unlink(missing_ok=True)
        raise _failure("restore", error) from error
    return Report(str(data), len(files), sum(one.size for one in files), cases)


def read_manifest(folder: Path) -> list[BackedUpFile]:
    """The files of a backup.

    Raises
    ------
    ConfigurationError
        There is no complete backup in `folder`, or a later version made it.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
        made_by, files = manifest["format"], [BackedUpFile(**one) for one in manifest["files"]]
    except FileNotFoundError:
        raise ConfigurationError(
            f"{folder} holds no complete backup ({MANIFEST} is missing)", "name the folder of a backup"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{folder / MANIFEST} is damaged", "use another backup") from error
    if made_by != FORMAT:
        raise ConfigurationError(f"{folder} was made by corewatch {manifest.get('corewatch')}", "restore it with that version")
    for one in files:
        path = Path(one.path)
        if path.is_absolute() or ".." in path.parts or (path.parts[0] == DATA and len(path.parts) < 2):
            raise ConfigurationError(f"{folder / MANIFEST} is damaged", "use another backup")
    if not any(one.path == LEDGER_FILE for one in files):
        raise ConfigurationError(f"{folder} holds no ledger", "use another backup")
    return files


def _files_below(data: Path) -> Iterator[tuple[Path, str]]:
    """Files of the data folder and their names in it. Folders directly below it may be links to other disks."""
    for top in sorted(data.iterdir()):
        if top.name in _NOT_COPIED or top.name.endswith((".lock", PARTIAL_SUFFIX)):
            continue
        if top.is_file():
            yield top, top.name
        for root, folders, names in os.walk(top):
            folders.sort()
            for name in sorted(names):
                path = Path(root, name)
                if not name.endswith(PARTIAL_SUFFIX) and path.is_file():
                    yield path, path.relative_to(data).as_posix()


def _copy(source: Path, folder: Path, name: str) -> BackedUpFile:
    target = folder / name
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as reading:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = os.fstat(reading.fileno()).st_mode & 0o777
        with open(target, "xb", opener=lambda path, flags: os.open(path, flags, mode)) as writing:
            while chunk := reading.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                writing.write(chunk)
            writing.flush()
            os.fsync(writing.fileno())
    return BackedUpFile(name, size, digest.hexdigest(), mode)


def _copy_back(folder: Path, one: BackedUpFile, target: Path) -> None:
    source = folder / one.path
    target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    copied = _copy(source, target.parent, target.name)
    target.chmod(one.mode)
    if (copied.size, copied.sha256) != (one.size, one.sha256):
        raise BackupFailed(f"{source} is not what was backed up: it is damaged or was changed", "use another backup")


def _restore_ledger(folder: Path, described: BackedUpFile, url: str) -> int:
    with tempfile.TemporaryDirectory(prefix="corewatch-restore-") as temporary:
        copy = Path(temporary, LEDGER_FILE)
        _copy_back(folder, described, copy)  # a copy: it is migrated if an earlier version wrote it
        return restore_snapshot(copy, url)


def _described(folder: Path, path: Path) -> BackedUpFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    return BackedUpFile(path.relative_to(folder).as_posix(), path.stat().st_size, digest, path.stat().st_mode & 0o777)


def _has_content(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.exists() or path.is_symlink()


def _give_to(top: Path, owner: os.stat_result) -> None:
    """As root: give what was restored to the owner of the data folder, whose programs must read it."""
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    for path in (top, *top.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _sync_folders(folder: Path) -> None:
    for root, _folders, _names in os.walk(folder, topdown=False):
        sync_folder(Path(root))


def _empty(folder: Path, *, remove: bool) -> None:
    """Remove what was written into a folder that was empty before."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    if remove:
        with suppress(OSError):
            folder.rmdir()


def _failure(what: str, error: Exception) -> CorewatchError:
    if isinstance(error, CorewatchError):
        return error
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return BackupFailed(f"the {what} did not finish: {where}{error.strerror or error}", "correct that, and start it again")
    reason = str(getattr(error, "orig", None) or error).splitlines()[0]
    return BackupFailed(f"the {what} did not finish: the database: {reason}", "see that it runs, and correct database.url")
