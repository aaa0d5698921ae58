"""The template that heads are aligned to: ICBM 2009a nonlinear symmetric, from the files that corewatch carries.

Fonov et al., *Unbiased nonlinear average age-appropriate brain templates from birth to adulthood*, NeuroImage 2009;47:S102.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_closing, binary_fill_holes, distance_transform_edt, gaussian_filter

from corewatch.geometry import apply
from foundation.template_files import template_file

STEP_MM: Final = 3.0
"""Voxels of the reduced template."""

SMOOTHING_MM: Final = 3.0
"""Standard deviation of the smoothing of `Template.ct_hu`, in mm."""

_MARGIN_MM: Final = 30.0
_CLOSING_MM: Final = 9.0
"""Closes the brain's surface over sulci and cisterns: what remains is close to the inner table of the skull."""

_T1_TO_HU: Final = ((0.0, 8.0), (70.0, 10.0), (120.0, 36.0), (150.0, 38.0), (205.0, 30.0), (255.0, 30.0))
"""T1 value of the template and HU of what it shows: fluid, grey matter, white matter."""


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """The template's outer hull and its inside as a CT would show it.

    Attributes
    ----------
    distance_mm
        float32, signed distance in mm from the hull of the brain, positive outside; smooth, symmetric about x = 0.
    ct_hu
        float32, rough HU of the template's tissues, smoothed over `SMOOTHING_MM`; meaningful inside the hull only.
    origin_mm
        RAS mm of voxel (0, 0, 0) of both; voxels of `STEP_MM`, axes R-A-S.
    centre_mm
        Centre of the hull, RAS mm, with x = 0.
    """

    distance_mm: NDArray[np.float32]
    ct_hu: NDArray[np.float32]
    origin_mm: NDArray[np.float64]
    centre_mm: NDArray[np.float64]


@lru_cache(maxsize=1)
def load_template() -> Template:
    """Read the template once per process."""
    image = nib.load(template_file("t1"))
    t1 = np.asanyarray(image.dataobj)
    step = int(STEP_MM / float(image.header.get_zooms()[0]))
    middle = round(float((np.linalg.inv(image.affine) @ [0, 0, 0, 1])[0]))
    # blocks are centred on x = 0, so that the reduced template is symmetric too
    first = np.array([middle % step - step // 2, 0, 0]) % step
    blocks = [int(n - f) // step for n, f in zip(t1.shape, first, strict=True)]
    whole = t1[tuple(slice(int(f), int(f) + n * step) for f, n in zip(first, blocks, strict=True))]
    pad = int(np.ceil(_MARGIN_MM / STEP_MM))
    mask = np.pad(whole[step // 2 :: step, step // 2 :: step, step // 2 :: step] > 0, pad)
    origin = apply(image.affine, first + step // 2) - pad * STEP_MM
    radius = round(_CLOSING_MM / STEP_MM)
    ball = np.sum(np.square(np.indices((2 * radius + 1,) * 3) - radius), axis=0) <= radius**2
    hull = binary_fill_holes(binary_closing(mask, ball))
    hull |= hull[::-1]
    distance = distance_transform_edt(~hull) - distance_transform_edt(hull)
    distance = gaussian_filter((distance * STEP_MM).astype(np.float32), 1.0)
    centre = np.array(np.nonzero(hull)).mean(axis=1) * STEP_MM + origin
    to_hu = np.interp(np.arange(256), *np.transpose(_T1_TO_HU)).astype(np.float32)
    means = to_hu[whole].reshape(blocks[0], step, blocks[1], step, blocks[2], step).mean(axis=(1, 3, 5))
    hu = gaussian_filter(np.pad(means, pad, mode="edge"), SMOOTHING_MM / STEP_MM, truncate=3.0)
    return Template(distance, hu, origin, np.array([0.0, centre[1], centre[2]]))
