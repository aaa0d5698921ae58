"""From the series as it came to the head on the network's grid."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from conversion.alignment import align, check_quality
from conversion.convert import convert_with_reference
from conversion.nifti import read_aligned, write_aligned
from conversion.series_checks import A_HEAD
from conversion.series_reference import file_of_one_study, write_source_header
from conversion.sidecar import write_aligned_sidecar
from corewatch.casefolder import PARTIAL_SUFFIX, CaseFolder
from corewatch.errors import NotAnalysed
from corewatch.volumes import AlignedHead
from worker.progress import Progress, silent
from worker.stages.case_files import Prepared, ScannerGrid

Look = Callable[[AlignedHead], None]
"""Is shown the aligned head before its quality is judged."""


def _look_away(_: AlignedHead) -> None:
    """Nobody asked to see it."""


@dataclass(frozen=True, slots=True)
class DicomSource:
    """The files of one series."""

    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class AlignedSource:
    """A NIfTI file that is already on the network's grid."""

    path: Path


def prepare(
    source: DicomSource | AlignedSource,
    folder: CaseFolder,
    *,
    minimum_score: float | None,
    progress: Progress = silent,
    look: Look = _look_away,
) -> Prepared:
    """Convert and align; leaves `aligned.nii.gz` with its sidecar, `prepared.json` and, for DICOM, `source_header.dcm` (also where
    it raises).

    Parameters
    ----------
    minimum_score
        Below this alignment score the head is not analysed; None: the threshold that comes with the alignment.
    look
        Is shown the aligned head, also where its quality is then found wanting.

    Raises
    ------
    NotAnalysed
        The series cannot be analysed, with the reason.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    for left_over in folder.path.rglob(f"*{PARTIAL_SUFFIX}"):  # of a worker that was killed while it wrote
        left_over.unlink(missing_ok=True)
    done = (
        _take_aligned(source, folder, look)
        if isinstance(source, AlignedSource)
        else _align(source.paths, folder, minimum_score, progress, look)
    )
    done.write(folder)
    return done


def _take_aligned(source: AlignedSource, folder: CaseFolder, look: Look) -> Prepared:
    started = time.perf_counter()
    head = read_aligned(source.path)
    look(head)
    write_aligned(folder.aligned, head)
    write_aligned_sidecar(folder.aligned_sidecar, head, None)
    took = time.perf_counter() - started
    return Prepared(None, (), None, None, None, convert_s=took, align_s=None)


def _align(paths: Sequence[Path], folder: CaseFolder, minimum_score: float | None, progress: Progress, look: Look) -> Prepared:
    started = time.perf_counter()
    progress(f"reading {len(paths)} images")
    try:
        volume, reference = convert_with_reference(paths, demands=A_HEAD)
    except NotAnalysed:
        # the page that says so belongs into the study
        if (file := file_of_one_study(paths)) is not None:
            write_source_header(file, folder.source_header)
        raise
    for note in reference.notes:
        progress(note)
    write_source_header(reference.file, folder.source_header)
    converted = time.perf_counter()
    progress("aligning the head to the network's grid")
    try:
        head = align(volume)
        look(head)
        if head.quality is not None:
            check_quality(head.quality) if minimum_score is None else check_quality(head.quality, minimum_score)
    except NotAnalysed as error:
        # what was done to the series may be why
        raise NotAnalysed(error.reason, " ".join(filter(None, [error.detail, *reference.notes]))) from error
    write_aligned(folder.aligned, head)
    write_aligned_sidecar(folder.aligned_sidecar, head, volume)
    return Prepared(
        series_uid=reference.series_uid,
        source_instances=reference.instances,
        source_images=reference.images,
        grid=ScannerGrid(volume.hu.shape, volume.voxel_to_lps),
        lps_to_voxel=head.lps_to_voxel,
        quality=head.quality,
        convert_s=converted - started,
        align_s=time.perf_counter() - converted,
        notes=reference.notes,
    )
