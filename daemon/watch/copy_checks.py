"""Whether the copy of a drop looks broken off, by the headers of its images: a pure decision.

Nothing marks the end of a copy. A series that would be analysed, or is only too short for that, and lacks slices by its own headers
is given more time. A series that the rules exclude for another reason delays nothing: a localizer never is a regular stack.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from corewatch.completeness import looks_whole
from corewatch.instance import Instance
from corewatch.selection import Rejected, Rule, select
from daemon.intake.triage import HALF_COPIED

BROKEN_OFF: Final = "The copy looks broken off"


@dataclass(frozen=True, slots=True)
class DroppedImage:
    """Header of one image of a drop; `images_in_acquisition` is (0020,1002), None where absent."""

    instance: Instance
    images_in_acquisition: int | None = None


def broken_off(images: Iterable[DroppedImage], rules: Sequence[Rule]) -> str | None:
    """Why the copy looks broken off, or None: announced images are missing, the stack has a gap, or it is too short for a head."""
    by_series: dict[str, dict[str, DroppedImage]] = defaultdict(dict)
    for image in images:
        by_series[image.instance.series_uid][image.instance.sop_instance_uid] = image
    return next((why for series in by_series.values() if (why := _missing(list(series.values()), rules)) is not None), None)


def _missing(images: Sequence[DroppedImage], rules: Sequence[Rule]) -> str | None:
    instances = [image.instance for image in images]
    answer = select(instances, rules)
    if isinstance(answer, Rejected) and answer.reason not in HALF_COPIED:
        return None
    announced = max((i.instances_in_series for i in instances if i.instances_in_series is not None), default=0)
    acquired = Counter(i.acquisition_number for i in instances)
    lacking = (i.images_in_acquisition - acquired[i.instance.acquisition_number] for i in images if i.images_in_acquisition)
    expected = max(announced, len(images) + max(lacking, default=0))
    if len(images) < expected:
        return f"{BROKEN_OFF}: {len(images)} of {expected} images are there, by their headers."
    if not looks_whole(instances):
        return f"{BROKEN_OFF}: the slices have gaps, by their positions and numbers."
    return None if not isinstance(answer, Rejected) else f"{BROKEN_OFF}: {answer.reason.sentence}"
