"""Measures of an aligned head before the network sees it: HU level, noise, enhancement, dense regions.

What follows from them is decided in `corewatch.image_measures`; how they were found is in docs/cautions.md.
"""

from conversion.image_checks.measures import measure_head
from conversion.image_checks.noise import noise_hu

__all__ = ["measure_head", "noise_hu"]
