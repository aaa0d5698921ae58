"""Conversion of a series of DICOM files to one checked CT volume, or the reason why it is refused."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from conversion.frames import check_pixels, numbers_readable
from conversion.hounsfield import check_plausible
from conversion.main_stack import separate_main_stack
from conversion.parallel import decode_slices
from conversion.problems import Problem, gravest_first, raise_problems
from conversion.series_checks import ANY_STACK, StackRequirements, check_series, one_patient
from conversion.series_reference import SourceReference, reference_to
from conversion.slices import Slice, read_slices
from conversion.volume_grid import VolumeGrid, check_grid, on_grid, plan_grid
from corewatch.errors import NotAnalysed
from corewatch.instance import Instance
from corewatch.reasons import Reason
from corewatch.volumes import ScannerVolume

log = logging.getLogger(__name__)


def convert_series(paths: Sequence[Path], *, threads: int = 2, requirements: StackRequirements = ANY_STACK) -> ScannerVolume:
    """Read the files of one series, in any order, into a volume of Hounsfield units on a regular grid.

    Copies of an instance count once where both show the same. What does not belong to the main stack is set aside and named in
    a note (`conversion.main_stack`).
    A tilted gantry is sheared back.
    Blocks of different steps, and irregular steps that are short enough, are interpolated (`LARGEST_PLANNED_STEP_MM` and
    `LARGEST_BRIDGED_STEP_MM` of `conversion.series_checks`).

    Parameters
    ----------
    threads
        Number of threads.
    requirements
        Further requirements on the stack.

    Returns
    -------
    HU, int16, (columns, rows, slices) in Fortran order; slices ascend along the normal of the images. Peak memory is the
    volume itself, and for a tilted gantry or irregular steps the decoded images as well.

    Raises
    ------
    NotAnalysed
        With the reason of the gravest problem and the details of all.
    OSError
        A file could not be opened or read.
    """
    return convert_with_reference(paths, threads=threads, requirements=requirements)[0]


def convert_with_reference(
    paths: Sequence[Path], *, threads: int = 2, requirements: StackRequirements = ANY_STACK
) -> tuple[ScannerVolume, SourceReference]:
    """As `convert_series`, together with the reference that results need; the headers are read once for both."""
    series = read_checked(paths, threads, requirements)
    grid = series.grid
    hu = decode_slices(series.slices, threads)
    check_plausible(hu, grid.along_mm)
    check_copies(series, hu, threads)
    notes = series.notes + grid.notes
    for note in notes:
        log.warning("%s", note)
    hu = on_grid(grid, hu, threads)
    uids = () if grid.interpolated else tuple(one.instance.sop_instance_uid for one in series.slices)
    return ScannerVolume(hu.transpose(2, 1, 0), grid.voxel_to_lps, uids), reference_to(series.slices, notes)


@dataclass(frozen=True, slots=True)
class CheckedSeries:
    """A series in whose headers no problem was found.

    Attributes
    ----------
    slices
        Each slice of the main stack once, ascending along the normal.
    copies
        Further files of these slices, which must hold the same pixels.
    grid
        The voxel grid of the volume.
    notes
        What was set aside.
    """

    slices: list[Slice]
    copies: list[Slice]
    grid: VolumeGrid
    notes: tuple[str, ...]


def read_checked(paths: Sequence[Path], threads: int, requirements: StackRequirements) -> CheckedSeries:
    """Read the headers of a series and check them. Raises as `convert_series`."""
    found = _usable(read_slices(paths, threads))
    problems = found.problems + check_series([one.instance for one in found.slices], requirements)
    problems += numbers_readable(found.slices)
    problems += check_pixels([*found.slices, *found.copies])
    raise_problems(gravest_first(problems), found.notes)
    grid = plan_grid([one.instance for one in found.slices])
    check_grid(grid)
    return CheckedSeries([found.slices[k] for k in grid.order], found.copies, grid, found.notes)


@dataclass(frozen=True, slots=True)
class _Usable:
    """Each slice once, its copies, and the problems and notes found so far."""

    slices: list[Slice]
    copies: list[Slice]
    problems: list[Problem]
    notes: tuple[str, ...]


def _usable(slices: Sequence[Slice]) -> _Usable:
    if not slices:
        raise NotAnalysed(Reason.UNREADABLE, "There are no files.")
    once: dict[tuple[str, int], Slice] = {}
    again = [one for one in slices if once.setdefault(_name(one), one) is not one]
    problems = one_patient(one.patient_id for one in slices)
    differing = sum(_place(once[_name(one)].instance) != _place(one.instance) for one in again)
    if differing:
        problems.append(_differing(differing))
    every = list(once.values())
    notes, wanted = separate_main_stack([one.instance for one in every])
    kept = [every[k] for k in wanted]
    names = {_name(one) for one in kept}
    if again:
        notes += (f"Received again and counted once: {len(again)} instances.",)
    return _Usable(kept, [one for one in again if _name(one) in names], problems, notes)


def _name(one: Slice) -> tuple[str, int]:
    return one.instance.sop_instance_uid, one.frame


def _differing(count: int) -> Problem:
    return Problem(Reason.MIXED_SERIES, f"{count} instances have the SOP Instance UID of another one but differ from it.")


def check_copies(series: CheckedSeries, hu: NDArray[np.int16], threads: int) -> None:
    """Raise `NotAnalysed(MIXED_SERIES)` where a copy of a slice has other values than the slice in `hu` (slices, rows, columns)."""
    if series.copies:
        place = {_name(one): k for k, one in enumerate(series.slices)}
        values = decode_slices(series.copies, threads)
        differing = sum(not np.array_equal(mine, hu[place[_name(one)]]) for mine, one in zip(values, series.copies, strict=True))
        raise_problems([_differing(differing)] if differing else [])


def _place(instance: Instance) -> tuple[object, ...]:
    """Attributes that two copies of one instance share, whatever encoding and other attributes an archive changed."""
    image = instance.study_uid, instance.series_uid, instance.rows, instance.columns
    return (*image, instance.position_lps, instance.orientation, instance.pixel_spacing_mm)
