"""Delivery into a folder: one subfolder per case, which is complete or absent.

Made for network shares. Only `result.json` is ever replaced in place, by rename. All else is copied into a hidden folder, which is
renamed when it is complete; the marker `COMPLETE` is written last. A killed worker leaves only hidden folders, which the next
delivery of the case removes. A share that refuses a rename while somebody reads costs another attempt and no result.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Final

from config.delivery import DeliverSettings, FolderSettings
from corewatch.destinations import FOLDER
from corewatch.errors import RetryLater
from corewatch.foldername import PATIENT_FIELDS, any_name_of, fields_of, folder_name
from foundation.durable import sync_file, sync_folder, write_durably
from outputs.case import ReportedCase
from outputs.destinations.base import Delivered, DestinationContext, DestinationKind, utc_clock
from outputs.source_header import read_header

COMPLETE: Final = "COMPLETE"
"""Marker, written last: a program that waits for results looks for it."""

_NEW, _OLD = "part", "old"
"""Suffixes of a folder that is being filled, and of one that is being removed."""


class FolderDestination:
    """Copies a case's result, pages, volumes and DICOM objects; not the source's header, which names the patient."""

    name = FOLDER
    server = None
    must_not_wait = False

    def __init__(self, settings: FolderSettings, clock: Callable[[], datetime] = utc_clock) -> None:
        self._root = settings.path
        self._pattern = settings.pattern
        self._clock = clock

    def skip_reason(self, case: ReportedCase) -> str | None:
        """Every case."""
        return None

    def deliver(self, case: ReportedCase) -> Delivered:
        """Copy the result into its folder; a folder that is complete and the same is left alone.

        Where only `result.json` differs (the case has ended since), only that file is replaced: a program that saw `COMPLETE` may
        be reading the others.
        """
        wanted = _wanted(case)
        name = folder_name(self._pattern, _values(case, fields_of(self._pattern)))
        target = self._root / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._sweep(case.case_id)
            different = _different(target, wanted)
            if different == {case.folder.result.name} and (target / COMPLETE).is_file():
                write_durably(target / case.folder.result.name, case.folder.result.read_bytes())
            elif different:
                _replace(target, wanted)
            for former in self._former_folders(target, case.case_id):
                former.rename(_hidden(former, _OLD))
            self._sweep(case.case_id)
        except OSError as error:
            raise self._unwritable(error) from None
        # the ledger and the logs hold no patient data, and this name may hold some
        shown = case.case_id if set(fields_of(self._pattern)) & set(PATIENT_FIELDS) else name
        return Delivered(f"{len(wanted)} files in folder {shown}", self._clock())

    def check(self) -> None:
        """Write and remove a small file."""
        probe = self._root / f".probe.{os.getpid()}"
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            write_durably(probe, b"")
            probe.unlink()
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> RetryLater:
        return RetryLater(f"the results folder {self._root} cannot be written: {error.strerror}", "check disk and permissions")

    def _sweep(self, case_id: str) -> None:
        """Remove the hidden folders of the case, which this delivery or a killed worker has left."""
        above = PurePosixPath(any_name_of(self._pattern, case_id)).parent
        for suffix in (_NEW, _OLD):
            for left in list(self._root.glob(str(above / f".*{case_id}.*.{suffix}"))):
                shutil.rmtree(left)

    def _former_folders(self, target: Path, case_id: str) -> Iterator[Path]:
        """Folders of the case under other names: for example, it failed before and has a side now."""
        for path in list(self._root.glob(any_name_of(self._pattern, case_id))):
            if path != target and not path.name.startswith("."):
                yield path


def _replace(target: Path, wanted: dict[str, Path]) -> None:
    """Fill a hidden folder beside `target`, rename it to `target`, and mark it complete."""
    new = _hidden(target, _NEW)
    try:
        for name, source in wanted.items():
            copy = new / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
            sync_file(copy)
        for folder in {(new / name).parent for name in wanted} | {new}:
            sync_folder(folder)
        if not target.exists():
            new.rename(target)
        else:  # a folder cannot be renamed over another that is not empty
            old = _hidden(target, _OLD)
            target.rename(old)
            try:
                new.rename(target)
            except OSError:
                old.rename(target)
                raise
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    sync_folder(target.parent)
    write_durably(target / COMPLETE, b"")


def _hidden(target: Path, suffix: str) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.{suffix}")


def _values(case: ReportedCase, fields: tuple[str, ...]) -> dict[str, str]:
    finding = case.result.finding
    values = {
        "case_id": case.case_id,
        "date": f"{case.received_at:%Y-%m-%d}",
        "side": "none" if finding is None else str(finding.side),
        "alert": "not-analysed" if finding is None else "alert" if finding.alert else "no-alert",
        "revision": str(case.revision),
    }
    if not set(fields) & set(PATIENT_FIELDS):
        return values
    header = None if case.source_header is None else read_header(case.source_header)
    keywords = {"patient_id": "PatientID", "accession_number": "AccessionNumber", "study_date": "StudyDate"}
    return values | {field: "" if header is None else str(header.get(keyword) or "") for field, keyword in keywords.items()}


def _wanted(case: ReportedCase) -> dict[str, Path]:
    """Relative name -> file of the case's folder; of the existing files only those in `dicom/` name the patient."""
    folder = case.folder
    volumes = (folder.aligned, folder.aligned_sidecar, folder.core_map, folder.core_map_native)
    single = (folder.result, folder.summary, *volumes)
    files = {path.name: path for path in single if path.is_file()}
    files |= {f"{folder.dicom.name}/{path.name}": path for path in sorted(folder.dicom.glob("*.dcm"))}
    if not files:
        raise RetryLater("the case's folder holds nothing yet that could be delivered", "its render stage must end first")
    return files


def _different(target: Path, wanted: dict[str, Path]) -> set[str]:
    """Names of the files that are missing, superfluous or different; all of them where the folder is not complete."""
    if not (target / COMPLETE).is_file():
        return set(wanted)
    there = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()} - {COMPLETE}
    both = there & set(wanted)
    return (there ^ set(wanted)) | {name for name in both if not filecmp.cmp(wanted[name], target / name, shallow=False)}


def _build(deliver: DeliverSettings, context: DestinationContext) -> Iterator[FolderDestination]:
    if deliver.folder is not None:
        yield FolderDestination(deliver.folder, context.clock)


KIND = DestinationKind(FolderSettings, _build)
