"""Side of the core, named only where every placement of the head and its mirror image agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from corewatch.findings import CORE_MAP_THRESHOLD, Side
from corewatch.geometry import MIDLINE_INDEX, NETWORK_TO_RAS
from worker.models.core_map import CoreMap
from worker.models.manifest import Thresholds

_MIRROR_SUM: Final = round(2 * NETWORK_TO_RAS[0, 3])
"""i and its mirror image about the midsagittal plane (x = 0) add up to this: 143."""

OPPOSITE: Final = {Side.LEFT: Side.RIGHT, Side.RIGHT: Side.LEFT, Side.NONE: Side.NONE}


@dataclass(frozen=True, slots=True)
class SideVotes:
    """The side that each displaced copy of the head shows, and the one that its mirror image shows (as it is in the image)."""

    placements: tuple[Side, ...]
    mirrored: Side


def decide_side(core_ml: float, core_map: CoreMap, thresholds: Thresholds) -> tuple[Side, float]:
    """Side of the core, and the confidence in it (0-1), from the head as it was placed.

    The confidence is the share of heads without a core whose hemispheres differ by less within the map than in this head, if the
    natural difference is normally distributed with the model's `asymmetry_sd_hu`. Below `side_min_confidence`, or with a core
    smaller than `side_min_ml`, the side is NONE; the confidence is returned all the same.
    """
    confidence = math.erf(core_map.difference_hu / (thresholds.asymmetry_sd_hu * math.sqrt(2.0)))
    if core_ml < thresholds.side_min_ml or confidence < thresholds.side_min_confidence:
        return Side.NONE, confidence
    return core_map.darker, confidence


def disagreement(side: Side, votes: SideVotes) -> str:
    """What speaks against `side`, in words; empty where all agree.

    >>> disagreement(Side.LEFT, SideVotes((Side.LEFT, Side.LEFT), mirrored=Side.RIGHT))
    ''
    """
    against = sum(vote is OPPOSITE[side] for vote in votes.placements)
    parts = [f"{against} of {len(votes.placements)} other placements disagree"] if against else []
    if votes.mirrored is not OPPOSITE[side]:
        parts.append("the mirror image of the head does not show the other side")
    return "; ".join(parts)


def mirror_image(hu: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The head (146, 182, 133) mirrored about its midsagittal plane, index 71.5: a patient with the other side affected.

    The network cuts at 72.5, so its answer is not simply the mirrored one.
    """
    mirrored = np.zeros_like(hu)
    mirrored[: _MIRROR_SUM + 1] = hu[_MIRROR_SUM::-1]
    return mirrored


def darker_side(head: NDArray[np.uint8] | NDArray[np.float32], hemisphere: NDArray[np.uint8]) -> Side:
    """The side with the lower mean within the core of a map of one hemisphere (73, 182, 133), from the midline outwards."""
    core = hemisphere > CORE_MAP_THRESHOLD
    left, right = head[MIDLINE_INDEX:][core], head[:MIDLINE_INDEX][::-1][core]
    difference = float(left.mean(dtype=np.float64) - right.mean(dtype=np.float64)) if left.size else 0.0
    return Side.NONE if difference == 0 else Side.LEFT if difference < 0 else Side.RIGHT


def votes_of(placements: Sequence[Side], mirrored: CoreMap) -> SideVotes:
    """The votes from the sides of the displaced copies and the map of the mirror image."""
    return SideVotes(tuple(placements), mirrored.darker)
