"""Checks of a series: whether its slices form one stack that can become a volume.

Every check is independent and returns the problems it finds; all problems are reported together.
Geometry comes from position and orientation alone, never from Slice Thickness, Spacing Between Slices or the tilt tag: those are
often wrong, and two vendors write opposite tilts for the same geometry.

The checks take one `Instance` per slice (one per frame of a multi-frame object, see `conversion.slices`), in any order. Frame: LPS,
mm.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from conversion.problems import Problem, gravest_first
from conversion.reconstruction import one_reconstruction
from conversion.slice_positions import slice_positions
from corewatch.acquisition_runs import interleaved
from corewatch.dicom_uids import CT_SOP_CLASSES
from corewatch.instance import Instance
from corewatch.reasons import Reason
from corewatch.selection import is_ct_modality
from corewatch.slice_stack import SAME_POSITION_MM, first_at_each_position
from corewatch.spacing import EQUAL_STEPS_MM, blocks, jumps

GRID_TOLERANCE_MM: Final = 0.1
"""Largest distance of a slice from its place on the regular grid. Positions with one decimal are off by 0.05 mm at the slice, and
by as much at the two ends that define the grid. Together they are a tenth of the network's voxel."""

PARALLEL_COSINE: Final = 1e-3
"""Largest difference of a direction cosine between slices of one stack; 1e-3 moves the far corner of a head by 0.25 mm."""

SPACING_TOLERANCE_MM: Final = 1e-3
"""Largest difference of the pixel spacing between slices of one stack; adds up to 0.5 mm over 512 pixels."""

GAP_FACTOR: Final = 1.5
"""Number of median steps beyond which a step is a gap, where slices are missing."""

LARGEST_BRIDGED_STEP_MM: Final = 3.0
"""Widest irregular step that is interpolated. The network sees voxels of 1 mm and was trained on infarcts of centimetres; a wider
gap could hide one."""

LARGEST_PLANNED_STEP_MM: Final = 7.5
"""Widest step of a block of equal steps (`corewatch.spacing`): sequential heads are scanned at 2.5 to 5 mm through the posterior
fossa and at up to 7 mm above. Slices of a block touch each other, so nothing between them is unseen."""

MINIMUM_SLICES: Final = 4
"""Fewest slices that show whether they are regularly spaced."""

LEAST_COVERAGE_MM: Final = 80.0
"""Smallest coverage of a head. A brain is some 120 mm high; the alignment, which measures the visible share, needs far more than
half."""


@dataclass(frozen=True, slots=True)
class StackRequirements:
    """Further requirements on a stack.

    Attributes
    ----------
    minimum_slices
        Fewer are `TOO_FEW_SLICES`.
    widest_step_mm
        Regular steps that are wider are `SLICES_TOO_THICK`.
    least_coverage_mm
        A stack that is shorter, a slice at each end included, is `TOO_LITTLE_COVERAGE`.
    """

    minimum_slices: int = MINIMUM_SLICES
    widest_step_mm: float = math.inf
    least_coverage_mm: float = 0.0


ANY_STACK: Final = StackRequirements()
"""Any stack."""

WHOLE_HEAD: Final = StackRequirements(MINIMUM_SLICES, LARGEST_PLANNED_STEP_MM, LEAST_COVERAGE_MM)
"""A stack that can show a whole head."""


Check = Callable[[Sequence[Instance]], list[Problem]]


def check_series(instances: Sequence[Instance], requirements: StackRequirements = ANY_STACK) -> list[Problem]:
    """All problems of a series, the gravest first; empty where the slices form one stack."""
    checks: tuple[Check, ...] = (
        is_ct,
        one_series,
        one_study,
        one_frame_of_reference,
        one_reconstruction,
        one_matrix,
        one_pixel_spacing,
        one_orientation,
        positions_present,
        positions_unique,
        positions_on_a_line,
        regular_increments,
        lambda slices: enough_slices(slices, requirements.minimum_slices),
        lambda slices: fine_enough(slices, requirements.widest_step_mm),
        lambda slices: long_enough(slices, requirements.least_coverage_mm),
    )
    found = [problem for check in checks for problem in check(instances)]
    return gravest_first(found)


def is_ct(slices: Sequence[Instance]) -> list[Problem]:
    """Only CT images, and none of them a localizer (PS3.3 C.8.2.1.1.1, value 3 of Image Type)."""
    other = Counter(one.modality for one in slices if not is_ct_modality(one.modality))
    if other:
        return [Problem(Reason.NOT_CT, f"It holds {_counted(other)}.")]
    foreign = sum(one.sop_class_uid not in CT_SOP_CLASSES for one in slices)
    localizers = sum(is_localizer(one) for one in slices)
    problems = []
    if foreign:
        problems.append(Problem(Reason.NOT_A_VOLUME, f"{foreign} of {len(slices)} instances are no CT images."))
    if localizers:
        problems.append(Problem(Reason.NOT_A_VOLUME, f"{localizers} of {len(slices)} images are localizers."))
    return problems


def is_localizer(instance: Instance) -> bool:
    """Whether Image Type (0008,0008) names a localizer (scout, topogram)."""
    return "LOCALIZER" in instance.image_type[2:]


def one_series(slices: Sequence[Instance]) -> list[Problem]:
    """One Series Instance UID."""
    return _one("series", Counter(one.series_uid for one in slices))


def one_study(slices: Sequence[Instance]) -> list[Problem]:
    """One Study Instance UID: the result belongs to one study."""
    return _one("studies", Counter(one.study_uid for one in slices))


def one_patient(patient_ids: Iterable[str]) -> list[Problem]:
    """One Patient ID (0010,0020) among the files that have one. The message names none."""
    return _one("patients", Counter(patient_id for patient_id in patient_ids if patient_id))


def one_frame_of_reference(slices: Sequence[Instance]) -> list[Problem]:
    """One Frame of Reference UID (0020,0052): positions of different frames cannot be compared."""
    return _one("frames of reference", Counter(one.frame_of_reference_uid for one in slices))


def one_matrix(slices: Sequence[Instance]) -> list[Problem]:
    """The same rows and columns in every slice."""
    sizes = Counter((one.columns or 0, one.rows or 0) for one in slices)
    if any(0 in size for size in sizes):
        return [Problem(Reason.NOT_A_VOLUME, f"{sum(n for size, n in sizes.items() if 0 in size)} instances hold no image.")]
    return _one("image sizes", Counter({f"{columns} x {rows}": count for (columns, rows), count in sizes.items()}), name=True)


def one_pixel_spacing(slices: Sequence[Instance]) -> list[Problem]:
    """The same Pixel Spacing (0028,0030) in every slice, within `SPACING_TOLERANCE_MM`."""
    known = np.array([one.pixel_spacing_mm for one in slices if one.pixel_spacing_mm is not None])
    problems = []
    if len(known) < len(slices):
        problems.append(Problem(Reason.IRREGULAR_GEOMETRY, f"{len(slices) - len(known)} slices have no pixel spacing."))
    if len(known) and np.ptp(known, axis=0).max() > SPACING_TOLERANCE_MM:
        low, high = known.min(), known.max()
        problems.append(Problem(Reason.MIXED_SERIES, f"The pixel spacing varies from {low:.4g} mm to {high:.4g} mm."))
    return problems


def one_orientation(slices: Sequence[Instance]) -> list[Problem]:
    """The same orientation in every slice, its two directions at right angles and of unit length."""
    known = np.array([one.orientation for one in slices if one.orientation is not None])
    problems = []
    if len(known) < len(slices):
        problems.append(Problem(Reason.IRREGULAR_GEOMETRY, f"{len(slices) - len(known)} slices have no orientation."))
    if not len(known):
        return problems
    row, column = known[:, :3], known[:, 3:]
    crooked = np.abs((row * column).sum(axis=1)) + np.abs((row**2).sum(axis=1) - 1) + np.abs((column**2).sum(axis=1) - 1)
    if crooked.max() > 10 * PARALLEL_COSINE:
        problems.append(Problem(Reason.IRREGULAR_GEOMETRY, "The directions of rows and columns are not at right angles."))
    away = np.abs(known - np.median(known, axis=0)).max(axis=1) > PARALLEL_COSINE
    if away.any():
        problems.append(Problem(Reason.MIXED_SERIES, f"{away.sum()} of {len(known)} slices are oriented differently."))
    return problems


def positions_present(slices: Sequence[Instance]) -> list[Problem]:
    """Every slice has a position."""
    without = sum(one.position_lps is None for one in slices)
    return [Problem(Reason.IRREGULAR_GEOMETRY, f"{without} of {len(slices)} slices have no position.")] if without else []


def positions_unique(slices: Sequence[Instance]) -> list[Problem]:
    """No two slices at the same position: that would be several phases, or two acquisitions, in one series."""
    line = slice_positions(slices)
    if line is None or len(slices) < 2:
        return []
    starts = first_at_each_position(line.along)
    counts = np.diff(np.append(starts, len(line.along)))
    if len(counts) == 1:
        return [Problem(Reason.NOT_A_VOLUME, f"All {len(slices)} images lie at one position.")]
    if counts.max() == 1:
        return []
    if counts.min() == counts.max():
        return [Problem(Reason.MIXED_SERIES, f"Each of its {len(counts)} positions occurs {counts[0]} times.")]
    first = line.place(int(starts[counts > 1][0]))
    return [Problem(Reason.MIXED_SERIES, f"{(counts > 1).sum()} positions occur more than once, the first at {first}.")]


def positions_on_a_line(slices: Sequence[Instance]) -> list[Problem]:
    """The positions lie on a straight line, along the normal or, with a tilted gantry, at an angle to it."""
    line = slice_positions(slices)
    if line is None or len(slices) < 3 or line.along[-1] - line.along[0] <= SAME_POSITION_MM:
        return []
    way = line.positions - line.positions[0]
    sideways = way - line.along[:, None] * line.normal
    off = np.linalg.norm(sideways - sideways[-1] * (line.along / line.along[-1])[:, None], axis=1)
    if off.max() <= GRID_TOLERANCE_MM:
        return []
    worst = int(off.argmax())
    return [
        Problem(Reason.IRREGULAR_GEOMETRY, f"The slice at {line.place(worst)} lies {off[worst]:.2f} mm off the line of the others.")
    ]


def regular_increments(slices: Sequence[Instance]) -> list[Problem]:
    """Regular steps along the normal; or blocks of regular steps, or irregular ones that are all short enough to be bridged."""
    line = slice_positions(slices)
    if line is None or len(slices) < 3:
        return []
    distinct = first_at_each_position(line.along)
    along = line.along[distinct]
    if len(along) < 3:
        return []
    if _acquisitions_overlap(slices) or interleaved([line.numbers[k] for k in distinct]):
        return [Problem(Reason.MIXED_SERIES, "Its acquisitions overlap, each with different slice positions.")]
    if lies_on_grid(along):
        return []
    steps = np.diff(along)
    usual = min([float(np.median(steps)), *(block.step_mm for block in blocks(along))])
    wide = steps > _allowed_steps(along, [line.numbers[k] for k in distinct])
    gaps = np.flatnonzero(wide & (steps > GAP_FACTOR * usual))
    if gaps.size:
        runs = _runs(gaps.tolist())
        places = [line.between(int(distinct[first]), int(distinct[last + 1])) for first, last in runs]
        more = f" and at {len(runs) - 3} more places" if len(runs) > 3 else ""
        detail = f"Steps of up to {steps[gaps].max():.2f} mm where {usual:.2f} mm are usual: {', '.join(places[:3])}{more}."
        return [Problem(Reason.MISSING_SLICES, detail)]
    if wide.any():
        spread = f"from {steps.min():.2f} mm to {steps.max():.2f} mm"
        return [Problem(Reason.IRREGULAR_GEOMETRY, f"The distance between slices varies {spread}.")]
    return []


def _allowed_steps(along: NDArray[np.float64], numbers: Sequence[int | None]) -> NDArray[np.float64]:
    """Widest allowed step at each place: that of the adjacent blocks where no number is missing, else what is interpolated."""
    allowed = np.full(len(along) - 1, LARGEST_BRIDGED_STEP_MM)
    planned = [block for block in blocks(along) if block.step_mm <= LARGEST_PLANNED_STEP_MM]
    for n, block in enumerate(planned):
        before = planned[n - 1].last if n else 0
        after = planned[n + 1].first if n + 1 < len(planned) else len(allowed)
        allowed[before:after] = np.maximum(allowed[before:after], block.step_mm + EQUAL_STEPS_MM)
    allowed[jumps(numbers)] = LARGEST_BRIDGED_STEP_MM
    return allowed


def enough_slices(slices: Sequence[Instance], minimum: int = MINIMUM_SLICES) -> list[Problem]:
    """At least `minimum` slices."""
    return [Problem(Reason.TOO_FEW_SLICES, f"It has {len(slices)}.")] if len(slices) < minimum else []


def fine_enough(slices: Sequence[Instance], widest_step_mm: float) -> list[Problem]:
    """Regular steps of at most `widest_step_mm`; gaps between irregular ones are found by `regular_increments`."""
    line = slice_positions(slices)
    if line is None or len(slices) < 3 or not lies_on_grid(line.along):
        return []
    step = float(line.along[-1]) / (len(slices) - 1)
    if step <= widest_step_mm + SAME_POSITION_MM:
        return []
    return [Problem(Reason.SLICES_TOO_THICK, f"They lie {step:.1f} mm apart; at most {widest_step_mm:g} mm are allowed.")]


def long_enough(slices: Sequence[Instance], least_coverage_mm: float) -> list[Problem]:
    """At least `least_coverage_mm` along the normal, from the lower face of the first slice to the upper face of the last."""
    line = slice_positions(slices)
    if line is None or len(slices) < 2:
        return []
    covered = float(line.along[-1] + np.median(np.diff(line.along)))
    if covered >= least_coverage_mm - SAME_POSITION_MM:
        return []
    return [Problem(Reason.TOO_LITTLE_COVERAGE, f"They cover {covered:.0f} mm; at least {least_coverage_mm:g} mm are needed.")]


def lies_on_grid(along: NDArray[np.float64]) -> bool:
    """Whether ascending distances in mm lie on a regular grid between the first and the last, and no step is a gap."""
    steps = np.diff(along)
    grid = np.linspace(along[0], along[-1], len(along))
    return bool(np.abs(along - grid).max() <= GRID_TOLERANCE_MM and steps.max() <= GAP_FACTOR * float(np.median(steps)))


def _acquisitions_overlap(slices: Sequence[Instance]) -> bool:
    """Whether the slices of each acquisition number lie on a grid, and these grids overlap."""
    groups: dict[int | None, list[Instance]] = {}
    for one in slices:
        groups.setdefault(one.acquisition_number, []).append(one)
    if len(groups) < 2 or min(map(len, groups.values())) < MINIMUM_SLICES:
        return False
    lines = [line for group in groups.values() if (line := slice_positions(group)) is not None]
    if not all(lies_on_grid(line.along) for line in lines):
        return False
    spans = sorted(tuple(sorted((line.positions[0, line.axis], line.positions[-1, line.axis]))) for line in lines)
    return any(after[0] < before[1] for before, after in itertools.pairwise(spans))


def _runs(indices: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of each run of successive integers."""
    runs: list[tuple[int, int]] = []
    for k in indices:
        if runs and runs[-1][1] == k - 1:
            runs[-1] = (runs[-1][0], k)
        else:
            runs.append((k, k))
    return runs


def _one(what: str, found: Counter[str], *, name: bool = False) -> list[Problem]:
    if len(found) <= 1:
        return []
    return [Problem(Reason.MIXED_SERIES, f"It holds {len(found)} {what}{': ' + _counted(found) if name else ''}.")]


def _counted(found: Counter[str]) -> str:
    return ", ".join(f"{count} x {value}" for value, count in found.most_common(4))
