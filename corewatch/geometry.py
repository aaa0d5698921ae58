"""Frames of reference and the few matrices that connect them.

Frames
------
LPS
    DICOM's patient frame in mm: x grows to the patient's left, y to posterior, z to superior (PS3.3 C.7.6.2.1.1).
RAS
    NIfTI's world frame in mm: x grows to the patient's right, y to anterior, z to superior.
network voxel
    Index (i, j, k) of the network's grid, axes L-A-S: i grows to the patient's left, j to anterior, k to superior, so `i < 73`
    is the patient's RIGHT. Its RAS world is that of nilearn's bundled ICBM 2009a template, and x = 0 lies at i = 71.5.

Matrices are named `from_to_to`, are 4 x 4 float64, and act on column vectors (x, y, z, 1).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Orientation = tuple[float, float, float, float, float, float]
"""Direction cosines of a row and of a column, LPS: Image Orientation (Patient), (0020,0037)."""

Matrix = NDArray[np.float64]
"""A 4 x 4 homogeneous matrix, float64."""

NETWORK_SHAPE: Final = (146, 182, 133)
"""Voxels of the network's grid along L, A, S; 1 mm each."""

NETWORK_VOXEL_ML: Final = 0.001
"""Volume of one voxel of the network's grid in mL."""

MIDLINE_INDEX: Final = 73
"""First index along i that goes to the network as the patient's left hemisphere. The cut, at i = 72.5, lies 1 mm to the left of the
midsagittal plane, as it did where the published weights were trained."""

NETWORK_TO_RAS: Final[Matrix] = np.array(
    [[-1.0, 0.0, 0.0, 71.5], [0.0, 1.0, 0.0, -108.0], [0.0, 0.0, 1.0, -52.0], [0.0, 0.0, 0.0, 1.0]]
)
"""Network voxel -> RAS mm of the ICBM 2009a template (the position that fits the published template and patients; measured in
docs/alignment.md)."""
NETWORK_TO_RAS.setflags(write=False)

LPS_TO_RAS: Final[Matrix] = np.diag([-1.0, -1.0, 1.0, 1.0])
"""LPS mm <-> RAS mm; its own inverse."""
LPS_TO_RAS.setflags(write=False)


def apply(matrix: Matrix, points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Map points of shape (..., 3) through a homogeneous matrix; returns float64 of the same shape."""
    mapped: NDArray[np.float64] = np.asarray(points, np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
    return mapped


def inverse(matrix: Matrix) -> Matrix:
    """The way back: `from_to_to` becomes `to_to_from`."""
    back: Matrix = np.linalg.inv(matrix).astype(np.float64)
    return back


def voxel_sizes(matrix: Matrix) -> NDArray[np.float64]:
    """Lengths (3,) of the steps along each voxel axis, in the unit of the target frame (mm)."""
    sizes: NDArray[np.float64] = np.linalg.norm(matrix[:3, :3], axis=0)
    return sizes


def slice_normal(orientation: Orientation) -> NDArray[np.float64]:
    """Unit normal (3,), LPS, of an image plane from Image Orientation (Patient), (0020,0037)."""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(row, column)
    unit: NDArray[np.float64] = normal / np.linalg.norm(normal)
    return unit


def is_rigid(matrix: Matrix, tolerance: float = 1e-4) -> bool:
    """Whether the upper 3 x 3 is a proper rotation: orthonormal within `tolerance` and of determinant +1."""
    linear = matrix[:3, :3]
    return bool(np.allclose(linear @ linear.T, np.eye(3), atol=tolerance) and np.linalg.det(linear) > 0)
