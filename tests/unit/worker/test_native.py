"""Volume and side of a core agree between the network's grid and the scanner's, however that runs through the head."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from conversion.nifti import write_aligned
from corewatch.casefolder import CaseFolder
from corewatch.findings import CORE_MAP_THRESHOLD, Detection, Finding, ModelIdentity, Side
from corewatch.geometry import LPS_TO_RAS, MIDLINE_INDEX, NETWORK_SHAPE, NETWORK_TO_RAS, NETWORK_VOXEL_ML, Matrix, apply
from corewatch.volumes import AlignedHead
from worker.stages.case_files import PreparedRecord, ScannerGrid
from worker.stages.detect import detect

ANATOMY: Matrix = np.linalg.inv(LPS_TO_RAS @ NETWORK_TO_RAS)
"""LPS mm of a head that lies just as the template does -> network voxel."""


def core_on(side: Side) -> NDArray[np.uint8]:
    """A smooth map like a network's, one blob of about 60 mL above the threshold."""
    at = (MIDLINE_INDEX + 34, 95, 70) if side is Side.LEFT else (MIDLINE_INDEX - 35, 95, 70)
    grid = np.indices(NETWORK_SHAPE, sparse=True)
    squared = sum(((axis - c) / r) ** 2 for axis, c, r in zip(grid, at, (17, 26, 20), strict=True))
    return (100 * np.exp(-squared)).astype(np.uint8)


MAPS = {side: core_on(side) for side in (Side.LEFT, Side.RIGHT)}


class Scripted:
    """A detector that finds a core where the test places it."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self.identity = ModelIdentity("scripted", "1", "0" * 64)

    def detect(self, hu: NDArray[np.uint8], *, alert_ml: float) -> Detection:
        return Detection(Finding(60.0, None, self._side, 0.9, True, alert_ml, False, self.identity), MAPS[self._side])

    def warm_up(self) -> None:
        pass


def scanner_grid(spacing: tuple[float, float, float], columns: NDArray[np.float64], lps_to_voxel: Matrix) -> ScannerGrid:
    """A grid with these axes (columns, of unit length) and steps in mm that covers the network's box."""
    linear = columns * np.array(spacing)
    corners = np.array([[(n >> a) & 1 for a in range(3)] for n in range(8)]) * (np.array(NETWORK_SHAPE) - 1)
    box = apply(np.linalg.inv(lps_to_voxel), corners) @ np.linalg.inv(linear).T
    low = np.floor(box.min(axis=0)) - 1
    shape = np.ceil(box.max(axis=0) - low).astype(int) + 2
    voxel_to_lps = np.eye(4)
    voxel_to_lps[:3, :3], voxel_to_lps[:3, 3] = linear, linear @ low
    return ScannerGrid((int(shape[0]), int(shape[1]), int(shape[2])), voxel_to_lps)


def check(folder: CaseFolder, side: Side, pose: Matrix, spacing: tuple[float, float, float], columns: NDArray[np.float64]) -> None:
    """Detect, and compare both maps as a reader of the files would."""
    lps_to_voxel = ANATOMY @ np.linalg.inv(pose)
    grid = scanner_grid(spacing, columns, lps_to_voxel)
    folder.path.mkdir(exist_ok=True)
    write_aligned(folder.aligned, AlignedHead(np.zeros(NETWORK_SHAPE, np.uint8), None, None))
    PreparedRecord("1.2", (), grid, lps_to_voxel, None, 0.1, 0.1).write(folder)

    detect(folder, Scripted(side), alert_ml=20.0)

    aligned, native = nib.load(folder.core_map), nib.load(folder.core_map_native)
    assert native.shape == grid.shape
    core, native_core = (np.asarray(image.dataobj) > CORE_MAP_THRESHOLD for image in (aligned, native))
    volume = core.sum() * NETWORK_VOXEL_ML
    native_volume = native_core.sum() * abs(np.linalg.det(native.affine[:3, :3])) / 1000
    assert native_volume == pytest.approx(volume, rel=0.04)
    # the file's own world: from RAS to LPS, out of the pose, and the sign of x says the side
    places = apply(LPS_TO_RAS @ native.affine, np.argwhere(native_core))
    x_lps = apply(np.linalg.inv(pose), places)[:, 0]
    midline_lps = -NETWORK_TO_RAS[0, 3] + MIDLINE_INDEX - 0.5
    on_left = x_lps > midline_lps
    assert on_left.all() if side is Side.LEFT else not on_left.any()
    centre = apply(lps_to_voxel, places.mean(axis=0))
    np.testing.assert_allclose(centre, np.argwhere(core).mean(axis=0), atol=0.5)


def pose_of(degrees: tuple[float, float, float], shift: tuple[float, float, float]) -> Matrix:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    pose[:3, 3] = shift
    return pose


def tilted(degrees: float) -> NDArray[np.float64]:
    """Axes of a stack whose gantry was tilted: the slices lean, the table goes straight on, so the grid is sheared."""
    lean = Rotation.from_euler("x", degrees, degrees=True).as_matrix()
    return np.column_stack([lean[:, 0], lean[:, 1], [0.0, 0.0, 1.0]])


GRIDS = {
    "thin axial": ((0.9, 0.9, 0.8), np.eye(3)),
    "thick axial": ((0.8, 0.8, 3.0), np.eye(3)),
    "mirrored columns": ((1.0, 1.0, 1.0), np.diag([-1.0, 1.0, 1.0])),
    "from the top down": ((1.0, 1.0, 1.5), np.diag([1.0, 1.0, -1.0])),
    "all mirrored": ((1.0, 1.0, 1.0), -np.eye(3)),
    "coronal": ((1.0, 1.0, 1.2), np.eye(3)[:, [0, 2, 1]]),
    "sagittal": ((1.0, 1.0, 1.2), np.eye(3)[:, [1, 2, 0]]),
    "oblique": ((0.9, 0.9, 1.2), Rotation.from_euler("xyz", (24, -11, 17), degrees=True).as_matrix()),
    "tilted by 20 degrees": ((0.9, 0.9, 1.5), tilted(20)),
    "tilted the other way": ((0.9, 0.9, 1.5), tilted(-28)),
}


@pytest.mark.parametrize("side", [Side.LEFT, Side.RIGHT])
@pytest.mark.parametrize("name", GRIDS)
def test_both_grids_agree(name: str, side: Side, tmp_path: Path) -> None:
    spacing, columns = GRIDS[name]

    check(CaseFolder(tmp_path / "case"), side, pose_of((6, -4, 9), (12, -30, 45)), spacing, columns)


_ANGLES = st.tuples(*[st.floats(-25, 25)] * 3)


@settings(max_examples=8, deadline=None)
@given(
    side=st.sampled_from([Side.LEFT, Side.RIGHT]),
    degrees=_ANGLES,
    shift=st.tuples(*[st.floats(-60, 60)] * 3),
    spacing=st.tuples(st.floats(0.8, 1.2), st.floats(0.8, 1.2), st.floats(0.8, 3)),
    flips=st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3),
    tilt=st.floats(-25, 25),
)
def test_both_grids_agree_whatever_the_grid(
    side: Side,
    degrees: tuple[float, float, float],
    shift: tuple[float, float, float],
    spacing: tuple[float, float, float],
    flips: tuple[float, float, float],
    tilt: float,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = CaseFolder(tmp_path_factory.mktemp("native") / "case")

    check(folder, side, pose_of(degrees, shift), spacing, tilted(tilt) * np.array(flips))
