"""A series of DICOM files to one CT volume that can be trusted, or the reason why not."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from conversion.checks import MINIMUM_SLICES, Problem, check_series, gravest_first, one_patient, raise_problems, set_aside
from conversion.frames import check_pixels
from conversion.hounsfield import check_plausible
from conversion.parallel import decode_slices
from conversion.slices import Slice, read_slices
from conversion.source import SourceReference, reference_to
from conversion.stack import check_grid, on_grid, plan_stack
from corewatch.errors import NotAnalysed
from corewatch.instance import Instance
from corewatch.reasons import Reason
from corewatch.volumes import ScannerVolume

log = logging.getLogger(__name__)


def convert_series(paths: Sequence[Path], *, threads: int = 2, minimum_slices: int = MINIMUM_SLICES) -> ScannerVolume:
    """Read the files of one series, in any order, into a volume of Hounsfield units on a regular grid.

    A file that came twice counts once; localizers, projections and pages are set aside and named. A tilted gantry is sheared back.
    Blocks of different steps, and irregular steps that are short enough, are interpolated (`LARGEST_PLANNED_STEP_MM` and
    `LARGEST_BRIDGED_STEP_MM` of `conversion.checks`).

    Parameters
    ----------
    threads
        How many cores to use.
    minimum_slices
        Fewer slices are `TOO_FEW_SLICES`.

    Returns
    -------
    HU, int16, (columns, rows, slices) in Fortran order; slices ascend along the normal of the images. The peak of memory is the
    volume itself, and for a tilted gantry or irregular steps the images as they lie in the files as well.

    Raises
    ------
    NotAnalysed
        With the reason of the gravest problem and the details of all.
    OSError
        A file could not be opened or read.
    """
    return convert_with_reference(paths, threads=threads, minimum_slices=minimum_slices)[0]


def convert_with_reference(
    paths: Sequence[Path], *, threads: int = 2, minimum_slices: int = MINIMUM_SLICES
) -> tuple[ScannerVolume, SourceReference]:
    """As `convert_series`, and what results need to point at the series; the headers are read once for both."""
    slices, problems, notes = _usable(read_slices(paths, threads))
    problems += check_series([one.instance for one in slices], minimum_slices)
    problems += check_pixels(slices)
    raise_problems(gravest_first(problems), notes)

    stack = plan_stack([one.instance for one in slices])
    check_grid(stack)
    slices = [slices[k] for k in stack.order]
    hu = decode_slices(slices, threads)
    check_plausible(hu)
    if not stack.regular:
        log.warning("slices at irregular steps, the widest %.2f mm: the volume is interpolated", np.diff(stack.along_mm).max())
    hu = on_grid(stack, hu, threads)
    uids = tuple(one.instance.sop_instance_uid for one in slices) if stack.regular else ()
    return ScannerVolume(hu.transpose(2, 1, 0), stack.voxel_to_lps, uids), reference_to(slices, notes)


def _usable(slices: Sequence[Slice]) -> tuple[list[Slice], list[Problem], tuple[str, ...]]:
    """Every frame once and without what is no slice, what is wrong with the rest, and what was set aside."""
    if not slices:
        raise NotAnalysed(Reason.UNREADABLE, "There are no files.")
    once: dict[tuple[str, int], Slice] = {}
    differing = 0
    for one in slices:
        first = once.setdefault((one.instance.sop_instance_uid, one.frame), one)
        differing += _place(first.instance) != _place(one.instance)
    problems = one_patient(one.patient_id for one in slices)
    if differing:
        detail = f"{differing} files carry the SOP Instance UID of another one but differ from it."
        problems.append(Problem(Reason.MIXED_SERIES, detail))
    aside, wanted = set_aside([one.instance for one in once.values()])
    every = list(once.values())
    for note in aside:
        log.warning("%s", note)
    return [every[k] for k in wanted], problems, aside


def _place(instance: Instance) -> tuple[object, ...]:
    """What two copies of one image share, whatever an archive changed of their encoding and other attributes."""
    image = instance.study_uid, instance.series_uid, instance.rows, instance.columns
    return (*image, instance.position_lps, instance.orientation, instance.pixel_spacing_mm)
