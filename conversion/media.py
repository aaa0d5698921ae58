"""DICOM files in folders, CD contents and zips.

An archive is not trusted: none of its names becomes a path, links are not followed, and it must not unpack to more than the limits.
"""

from __future__ import annotations

import lzma
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conversion.elements import looks_like_dicom
from corewatch.errors import NotAnalysed
from corewatch.reasons import Reason
from corewatch.units import MIB

_MEDIA_DIRECTORY: Final = b"1.2.840.10008.1.3.10"
"""Media Storage Directory Storage (PS3.10 8.6): a DICOMDIR, whatever its name."""

_START_BYTES: Final = 512
_CHUNK: Final = 1 << 20
_ENCRYPTED: Final = 0x1
"""Bit 0 of a zip entry's general purpose flag."""


DAMAGED: Final = "The zip is damaged, or packed in a way that cannot be read."

ZIP_ERRORS: Final = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, ValueError)
"""Exceptions of the standard library on damaged archives."""


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Limits on what an archive unpacks to.

    Attributes
    ----------
    files
        Entries of any kind.
    total_bytes
        Size of all entries together after unpacking.
    ratio
        Size after unpacking to size before, of the whole archive. CT compresses to a half or a third; even an empty phantom stays
        far below.
    ratio_free_bytes
        Size after unpacking up to which the ratio is not checked, because it does no harm.
    """

    files: int = 50_000
    total_bytes: int = 16 << 30
    ratio: float = 200.0
    ratio_free_bytes: int = 64 * MIB


ARCHIVE_LIMITS: Final = ArchiveLimits()


def check_entries(entries: Sequence[zipfile.ZipInfo], archive_bytes: int, limits: ArchiveLimits = ARCHIVE_LIMITS) -> None:
    """Refuse an archive that cannot be unpacked or is made to do harm, by its table of contents.

    The stated sizes are reliable: `zipfile` reads no entry beyond its size, and reports one that is stated too small as damaged.

    Raises
    ------
    NotAnalysed
        `UNREADABLE`: beyond the limits, or encrypted.
    """
    if len(entries) > limits.files:
        raise NotAnalysed(Reason.UNREADABLE, f"The zip holds too many files: {len(entries)}; {limits.files} are allowed.")
    if any(entry.flag_bits & _ENCRYPTED for entry in entries):
        raise NotAnalysed(Reason.UNREADABLE, "The zip is protected by a password; send it without one.")
    total = sum(entry.file_size for entry in entries)
    if total > limits.total_bytes:
        raise NotAnalysed(Reason.UNREADABLE, "The zip holds too much data.")
    if total > limits.ratio_free_bytes and total > limits.ratio * archive_bytes:
        raise NotAnalysed(Reason.UNREADABLE, "The zip would unpack to far more data than images can be packed into.")


def is_link(entry: zipfile.ZipInfo) -> bool:
    """Whether an entry is a symbolic link (its Unix mode is in the upper half of the external attributes)."""
    return stat.S_ISLNK(entry.external_attr >> 16)


def find_files(root: Path) -> list[Path]:
    """Files under a folder that are DICOM by their content, sorted; a DICOMDIR is left out, symbolic links are not followed.

    `root` may be a single file. Files that vanish or cannot be read are left out.
    """
    candidates = [root] if root.is_file() else sorted(_walk(root))
    return [path for path in candidates if _is_dicom_file(path)]


def unpack(archive: Path, folder: Path, limits: ArchiveLimits = ARCHIVE_LIMITS) -> list[Path]:
    """Unpack the DICOM files of a zip into `folder`, under new names (`000001.dcm`, ...).

    Names in archives often hold patients' names, and may point outside of the folder; they are not used at all.

    Parameters
    ----------
    folder
        An existing, empty folder.

    Returns
    -------
    The files, in the order of the archive. A DICOMDIR, links and files that are not DICOM are left out.

    Raises
    ------
    NotAnalysed
        `UNREADABLE`: not a zip, damaged, encrypted, beyond the limits or without any DICOM file. Nothing is left in the folder.
    OSError
        The archive could not be read or the folder not written to.
    """
    done: list[Path] = []
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = [entry for entry in opened.infolist() if not entry.is_dir() and not is_link(entry)]
            check_entries(entries, archive.stat().st_size, limits)
            for entry in entries:
                _unpack(opened, entry, folder, done)
    except ZIP_ERRORS as error:
        _remove(done)
        raise NotAnalysed(Reason.UNREADABLE, DAMAGED) from error
    except BaseException:
        _remove(done)
        raise
    if not done:
        raise NotAnalysed(Reason.UNREADABLE, "The zip holds no DICOM file.")
    return done


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path, done: list[Path]) -> None:
    with archive.open(entry) as packed:
        start = packed.read(_START_BYTES)
        if not _is_dicom(start):
            return
        target = folder / f"{len(done) + 1:06d}.dcm"
        done.append(target)
        with target.open("xb") as file:
            file.write(start)
            shutil.copyfileobj(packed, file, _CHUNK)


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
