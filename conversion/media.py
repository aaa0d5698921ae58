"""Finding DICOM files in what people drop: a folder, a CD's content, a zip.

An archive comes from anywhere and is not trusted: none of its names becomes a path, links are not followed, and it may not grow
beyond limits that the caller sets.
"""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from conversion.elements import looks_like_dicom
from corewatch.errors import NotAnalysed
from corewatch.reasons import Reason

_MEDIA_DIRECTORY: Final = b"1.2.840.10008.1.3.10"
"""Media Storage Directory Storage (PS3.10 8.6): a DICOMDIR, whatever its name."""

_START_BYTES: Final = 512
_CHUNK: Final = 1 << 20
_ENCRYPTED: Final = 0x1
"""Bit 0 of a zip entry's general purpose flag."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How far an archive may grow.

    Attributes
    ----------
    files
        Entries of any kind.
    total_bytes
        Size of all DICOM files together after unpacking.
    ratio
        Size after unpacking to size before, of one entry. CT without compression packs to a fifth at best; only entries above 1 MiB
        are judged, since a small one may well be empty.
    """

    files: int = 20_000
    total_bytes: int = 8 << 30
    ratio: float = 200.0


def find_files(root: Path) -> list[Path]:
    """Files under a folder that are DICOM by their content, sorted; a DICOMDIR is left out, symbolic links are not followed.

    `root` may be a single file. What vanishes or may not be read while looking is left out.
    """
    candidates = [root] if root.is_file() else sorted(_walk(root))
    return [path for path in candidates if _is_dicom_file(path)]


def unpack(archive: Path, folder: Path, limits: Limits | None = None) -> list[Path]:
    """Unpack the DICOM files of a zip into `folder`, under names of our own (`000001.dcm`, ...).

    Names in archives often hold patients' names, and may point outside of the folder; they are not used at all.

    Parameters
    ----------
    folder
        An existing, empty folder.

    Returns
    -------
    The files, in the order of the archive. A DICOMDIR, links and what is not DICOM are left out.

    Raises
    ------
    NotAnalysed
        `UNREADABLE`: not a zip, damaged, encrypted, beyond the limits or without any DICOM file. Nothing is left in the folder.
    OSError
        The archive could not be read or the folder not written to.
    """
    limits = limits or Limits()
    done: list[Path] = []
    try:
        with zipfile.ZipFile(archive) as opened:
            _unpack(opened, folder, limits, done)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        _remove(done)
        raise NotAnalysed(Reason.UNREADABLE, "The zip is damaged, or packed in a way that cannot be read.") from error
    except BaseException:
        _remove(done)
        raise
    if not done:
        raise NotAnalysed(Reason.UNREADABLE, "The zip holds no DICOM file.")
    return done


def _unpack(archive: zipfile.ZipFile, folder: Path, limits: Limits, done: list[Path]) -> None:
    entries = archive.infolist()
    if len(entries) > limits.files:
        raise NotAnalysed(Reason.UNREADABLE, f"The zip has {len(entries)} entries; {limits.files} are allowed.")
    left = limits.total_bytes
    for entry in entries:
        if entry.is_dir() or stat.S_ISLNK(entry.external_attr >> 16):
            continue
        if entry.flag_bits & _ENCRYPTED:
            raise NotAnalysed(Reason.UNREADABLE, "The zip is protected by a password.")
        with archive.open(entry) as packed:
            start = packed.read(_START_BYTES)
            if not _is_dicom(start):
                continue
            target = folder / f"{len(done) + 1:06d}.dcm"
            done.append(target)
            # the sizes that the archive states may be wrong, so what comes out is counted
            allowed = min(left, max(_CHUNK, int(limits.ratio * entry.compress_size)))
            left -= _copy(start, packed, target, allowed)


def _copy(start: bytes, packed: IO[bytes], target: Path, allowed: int) -> int:
    size = 0
    with target.open("xb") as file:
        chunk = start
        while chunk:
            size += len(chunk)
            if size > allowed:
                raise NotAnalysed(Reason.UNREADABLE, "The zip unpacks to more than is allowed.")
            file.write(chunk)
            chunk = packed.read(_CHUNK)
    return size


def _walk(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root, followlinks=False):
        for name in names:
            path = Path(folder) / name
            if not path.is_symlink() and path.is_file():
                yield path


def _is_dicom_file(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return _is_dicom(file.read(_START_BYTES))
    except OSError:
        return False


def _is_dicom(start: bytes) -> bool:
    return looks_like_dicom(start) and _MEDIA_DIRECTORY not in start


def _remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
