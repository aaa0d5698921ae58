"""Image volumes: the scanner's stack, and the aligned head on the network's grid."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from corewatch.geometry import NETWORK_SHAPE, NETWORK_TO_RAS, Matrix, is_rigid, voxel_sizes


@dataclass(frozen=True, slots=True, eq=False)
class ScannerVolume:
    """A CT stack on a regular scanner grid.

    Attributes
    ----------
    hu
        int16, shape (columns, rows, slices), Hounsfield units. Index i runs along a row of the image (DICOM's column index), j down
        the image, k along the slice normal.
    voxel_to_lps
        Voxel index (i, j, k) -> LPS mm, centre of the voxel.
    sop_instance_uids
        One per k: the source instance of the slice (the same UID for all frames of a multi-frame instance).
        Empty where slices were interpolated or the source was not DICOM.
    """

    hu: NDArray[np.int16]
    voxel_to_lps: Matrix
    sop_instance_uids: tuple[str, ...] = ()

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """Voxel size (3,) in mm along i, j, k."""
        return voxel_sizes(self.voxel_to_lps)


@dataclass(frozen=True, slots=True)
class AlignmentQuality:
    """Quality of an alignment.

    Attributes
    ----------
    score
        0 (no head found) to 1 (as good as the best heads measured); below the threshold the case ends `not_analysed`.
    midline_mm, midline_degrees
        Residual between the head's plane of symmetry and the grid's: offset in mm, angle in degrees.
    parts
        The figures behind the score, by name.
    """

    score: float
    midline_mm: float
    midline_degrees: float
    parts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class AlignedHead:
    """A head on the network's grid.

    Attributes
    ----------
    hu
        uint8, shape (146, 182, 133), axes L-A-S, Hounsfield units clipped to 0-100, skull kept.
    lps_to_voxel
        Scanner LPS mm -> network voxel: a rotation and a shift into L-A-S voxels of 1 mm. None where the input was aligned already
        and its scanner position is unknown.
    quality
        None where the input was aligned already.
    """

    hu: NDArray[np.uint8]
    lps_to_voxel: Matrix | None
    quality: AlignmentQuality | None

    def __post_init__(self) -> None:
        if self.hu.shape != NETWORK_SHAPE:
            raise ValueError(f"an aligned head has shape {NETWORK_SHAPE}, not {self.hu.shape}")
        # L-A-S is left-handed, so the placement is checked in RAS, where a mirrored or scaled head shows
        if self.lps_to_voxel is not None and not is_rigid(NETWORK_TO_RAS @ self.lps_to_voxel):
            raise ValueError("the placement of an aligned head is a rotation and a shift, nothing else")


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """A closed surface on the network's grid.

    Attributes
    ----------
    depth_mm
        float32, signed distance from the surface in mm, negative inside, on a coarse grid.
    network_to_index
        Network voxel -> index in `depth_mm`.
    """

    depth_mm: NDArray[np.float32]
    network_to_index: Matrix
