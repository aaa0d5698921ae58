"""What a series holds besides slices: localizers, projections, dose pages, captures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from corewatch.instance import Instance
from corewatch.reasons import Reason
from corewatch.selection import not_a_slice


def set_aside(instances: Sequence[Instance]) -> tuple[tuple[str, ...], list[int]]:
    """Keep localizers, projections, dose pages and captures out of a stack that is mostly slices.

    Returns
    -------
    What was set aside, in words, and the indices of the rest. All of them where less than half are slices: the checks then say why.
    """
    kinds = [found if (found := not_a_slice(one)) and found.reason is Reason.NOT_A_VOLUME else None for one in instances]
    kept = [k for k, kind in enumerate(kinds) if kind is None]
    if 2 * len(kept) < len(instances) or len(kept) == len(instances):
        return (), list(range(len(instances)))
    counted = Counter(kind.detail for kind in kinds if kind is not None)
    return tuple(f"Set aside: {count} of {len(instances)} images. {detail}" for detail, count in sorted(counted.items())), kept
