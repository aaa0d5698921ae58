"""Brain tissue maps of the ICBM 2009a nonlinear symmetric template, from the files that corewatch carries."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from corewatch.errors import ConfigurationError
from foundation.template_files import Kind, template_file

TEMPLATE_ORIGIN: Final = (-98.0, -134.0, -72.0)
"""RAS mm of voxel (0, 0, 0) of the template; its voxels are 1 mm and run R-A-S."""


@dataclass(frozen=True, slots=True, eq=False)
class TissueMaps:
    """Tissue probabilities on the template's grid, uint8, shape (197, 233, 189), 255 = certain; left and right are mirror images.

    Attributes
    ----------
    grey, white
        Probability of grey and white matter.
    brain
        Where the template has a brain at all (its T1 is skull-stripped), bool.
    """

    grey: NDArray[np.uint8]
    white: NDArray[np.uint8]
    brain: NDArray[np.bool_]


def _read(kind: Kind) -> NDArray[np.uint8]:
    path = template_file(kind)
    image = nib.load(path)
    if tuple(image.affine[:3, 3]) != TEMPLATE_ORIGIN or not np.allclose(image.affine[:3, :3], np.eye(3)):
        raise ConfigurationError(f"{path.name} has another grid than the one expected here")
    return np.asarray(image.dataobj, np.uint8)


@lru_cache(maxsize=1)
def tissue_maps() -> TissueMaps:
    """The template's tissue maps; read once per process."""
    maps = TissueMaps(_read("gm"), _read("wm"), _read("t1") > 0)
    for array in (maps.grey, maps.white, maps.brain):
        array.setflags(write=False)
    return maps
