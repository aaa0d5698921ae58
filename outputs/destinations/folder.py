"""Delivery into a folder: one subfolder per case, complete or not there."""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from corewatch.errors import RetryLater
from outputs.case import ReportedCase
from outputs.destinations.base import Delivered
from outputs.files import sync_folder, write_atomically

COMPLETE: Final = "COMPLETE"
"""Marker that is written last: a program that waits for results looks for it."""


@dataclass(frozen=True, slots=True)
class FolderParameters:
    """Where finished cases are copied to."""

    path: Path


class FolderDestination:
    """Copies a case's result, pages, volumes and DICOM objects. The source's header, which names the patient, stays behind."""

    name = "folder"

    def __init__(self, parameters: FolderParameters, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._root = parameters.path
        self._clock = clock

    def applies(self, case: ReportedCase) -> str | None:
        """Every case."""
        return None

    def deliver(self, case: ReportedCase) -> Delivered:
        """Copy to a temporary sibling, fsync, rename; what lies there already and is the same is left alone.

        Where only `result.json` is new (the case has ended meanwhile), that file alone is replaced: a program that saw `COMPLETE`
        may be reading the others.
        """
        wanted = _wanted(case)
        target = self._root / case.case_id
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            different = _different(target, wanted)
            if different == {case.folder.result.name}:
                write_atomically(target / case.folder.result.name, case.folder.result.read_bytes())
            elif different:
                self._replace(target, wanted)
        except OSError as error:
            raise RetryLater(
                f"the results folder {self._root} cannot be written: {error.strerror}; check disk and permissions"
            ) from None
        return Delivered(f"{len(wanted)} files in folder {case.case_id}", self._clock())

    def check(self) -> str | None:
        """Write and remove a small file."""
        probe = self._root / f".probe.{os.getpid()}"
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            write_atomically(probe, b"")
            probe.unlink()
        except OSError as error:
            return f"the results folder {self._root} cannot be written: {error.strerror}; check disk and permissions"
        return None

    def _replace(self, target: Path, wanted: dict[str, Path]) -> None:
        temporary = self._root / f".{target.name}.{os.getpid()}.part"
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            for name, source in wanted.items():
                copy = temporary / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, copy)
                _sync_file(copy)
            for folder in {(temporary / name).parent for name in wanted} | {temporary}:
                sync_folder(folder)
            old = self._move_away(target)
            try:
                temporary.rename(target)
            except OSError:
                if old is not None:
                    old.rename(target)
                raise
            sync_folder(self._root)
            write_atomically(target / COMPLETE, b"")
            if old is not None:
                shutil.rmtree(old, ignore_errors=True)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def _move_away(self, target: Path) -> Path | None:
        """Rename what stands in the way, since a folder cannot be renamed over another that is not empty."""
        if not target.exists():
            return None
        old = self._root / f".{target.name}.{os.getpid()}.old"
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        return old


def _wanted(case: ReportedCase) -> dict[str, Path]:
    """Relative name -> file of the case's folder, of those that exist and name no patient except towards the PACS (`dicom/`)."""
    folder = case.folder
    volumes = (folder.aligned, folder.aligned_sidecar, folder.core_map, folder.core_map_native)
    single = (folder.result, folder.summary, *volumes)
    files = {path.name: path for path in single if path.is_file()}
    files |= {f"{folder.dicom.name}/{path.name}": path for path in sorted(folder.dicom.glob("*.dcm"))}
    if not files:
        raise RetryLater("the case's folder holds nothing yet that could be delivered; its render stage has to come first")
    return files


def _different(target: Path, wanted: dict[str, Path]) -> set[str]:
    """Names of the files that are missing, too many or not the same; all of them where the folder is not complete."""
    if not (target / COMPLETE).is_file():
        return set(wanted)
    there = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()} - {COMPLETE}
    both = there & set(wanted)
    return (there ^ set(wanted)) | {name for name in both if not filecmp.cmp(wanted[name], target / name, shallow=False)}


def _sync_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
