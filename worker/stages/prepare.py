"""Stage `prepare`: convert a CT series to HU and align the head to the network's grid."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from conversion.alignment import align, check_quality
from conversion.convert import convert_with_reference
from conversion.converters import Converter
from conversion.nifti import read_aligned, write_aligned
from conversion.series_checks import WHOLE_HEAD
from conversion.series_reference import file_of_one_study, write_source_header
from conversion.sidecar import write_aligned_sidecar
from corewatch.casefolder import PARTIAL_SUFFIX, CaseFolder
from corewatch.errors import NotAnalysed
from corewatch.volumes import AlignedHead
from worker.stages.case_files import PreparedRecord, ScannerGrid

Progress = Callable[[str], None]
"""Is called with what a stage does at the moment, for a person at a terminal."""

HeadObserver = Callable[[AlignedHead], None]
"""Is called with the aligned head before its quality is checked."""


def no_progress(_message: str) -> None:
    """Show nothing: a worker has no terminal."""


def no_observer(_head: AlignedHead) -> None:
    """Look at nothing."""


@dataclass(frozen=True, slots=True)
class DicomSource:
    """The files of one series, in the order of its instances."""

    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class AlignedSource:
    """A NIfTI file that is already on the network's grid (146 x 182 x 133 voxels of 1 mm, L-A-S)."""

    path: Path


Source = DicomSource | AlignedSource


def prepare(
    source: Source,
    folder: CaseFolder,
    *,
    minimum_score: float | None,
    convert: Converter = convert_with_reference,
    progress: Progress = no_progress,
    on_aligned: HeadObserver = no_observer,
) -> PreparedRecord:
    """Convert and align a series; writes `aligned.nii.gz` with its sidecar, `prepared.json` and, for DICOM, `source_header.dcm`.

    `source_header.dcm` is written also where this raises: the page that says why goes into the study.

    Parameters
    ----------
    minimum_score
        Alignment score below which the head is not analysed; None: the threshold of the alignment itself.
    convert
        The converter (`conversion.converters`).
    on_aligned
        Is called with the aligned head, also where its quality is then found insufficient.

    Raises
    ------
    NotAnalysed
        The series cannot be analysed, with the reason.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    for partial in folder.path.rglob(f"*{PARTIAL_SUFFIX}"):  # of a worker that was killed while it wrote
        partial.unlink(missing_ok=True)
    if isinstance(source, AlignedSource):
        prepared = _copy_aligned(source.path, folder, on_aligned)
    else:
        prepared = _convert_and_align(source.paths, folder, minimum_score, convert, progress, on_aligned)
    prepared.write(folder)
    return prepared


def _copy_aligned(path: Path, folder: CaseFolder, on_aligned: HeadObserver) -> PreparedRecord:
    started = time.perf_counter()
    head = read_aligned(path)
    on_aligned(head)
    write_aligned(folder.aligned, head)
    write_aligned_sidecar(folder.aligned_sidecar, head, None)
    return PreparedRecord(None, (), None, None, None, convert_s=time.perf_counter() - started, align_s=None)


def _convert_and_align(
    paths: Sequence[Path],
    folder: CaseFolder,
    minimum_score: float | None,
    convert: Converter,
    progress: Progress,
    on_aligned: HeadObserver,
) -> PreparedRecord:
    started = time.perf_counter()
    progress(f"reading {len(paths)} files")
    try:
        volume, reference = convert(paths, requirements=WHOLE_HEAD)
    except NotAnalysed:
        # the page that says why goes into the study
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
        on_aligned(head)
        if head.quality is not None:
            check_quality(head.quality) if minimum_score is None else check_quality(head.quality, minimum_score)
    except NotAnalysed as error:
        # what the conversion changed may be why
        raise NotAnalysed(error.reason, " ".join(filter(None, [error.detail, *reference.notes]))) from error
    write_aligned(folder.aligned, head)
    write_aligned_sidecar(folder.aligned_sidecar, head, volume)
    return PreparedRecord(
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
