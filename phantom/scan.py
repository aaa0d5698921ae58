"""A phantom head on the scanner's table: its pose, the reconstructed grid, head holder, table and noise.

The scanner's frame is DICOM's LPS in mm. The holder is fixed to the table and does not turn with the head.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from corewatch.geometry import LPS_TO_RAS, NETWORK_TO_RAS, Matrix, apply
from phantom.head import PhantomHead
from phantom.shapes import Array
from phantom.variation import CENTRE

STORED_NOISE_HU: Final = 6.0
"""SD of the noise in the scanner's own voxels; resampled to 1 mm about 5 HU are left."""

_SLAB = 24
_SKIN_HU = -300
_ABOVE_VERTEX_MM = 6.0


@dataclass(frozen=True, slots=True)
class Acquisition:
    """How the head is scanned.

    Attributes
    ----------
    slices, coverage_mm
        Number of axial slices and the length they cover from just above the vertex downwards; their spacing is the quotient.
    matrix, pixel_mm
        Rows and columns of an image, and the distance of its pixels.
    degrees, millimetres
        Largest rotation about and shift along each axis away from the straight pose; drawn evenly from `seed`.
    noise_hu
        SD of the noise in the stored voxels.
    holder
        Whether head holder and table are in the picture.
    seed
        Chooses pose, table position and noise.
    """

    slices: int = 400
    coverage_mm: float = 200.0
    matrix: int = 512
    pixel_mm: float = 0.48
    degrees: float = 8.0
    millimetres: float = 10.0
    noise_hu: float = STORED_NOISE_HU
    holder: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.slices < 2 or self.matrix < 16 or self.pixel_mm <= 0 or self.coverage_mm <= 0:
            raise ValueError("a scan needs two slices, a matrix of 16 and positive lengths")

    @property
    def slice_mm(self) -> float:
        """Distance of neighbouring slices in mm."""
        return self.coverage_mm / self.slices


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """Where everything lies during a scan.

    Attributes
    ----------
    lps_to_template
        Scanner LPS mm -> RAS mm of the template (the phantom's own frame); rigid.
    voxel_to_lps
        Voxel (column, row, slice from feet to head) -> scanner LPS mm.
    """

    acquisition: Acquisition
    lps_to_template: Matrix
    voxel_to_lps: Matrix
    holder_y_mm: float
    holder_end_z_mm: float

    @property
    def lps_to_network(self) -> Matrix:
        """Scanner LPS mm -> network voxel: the right answer of an alignment."""
        return np.linalg.inv(NETWORK_TO_RAS).astype(np.float64) @ self.lps_to_template


def place(head: PhantomHead, acquisition: Acquisition) -> Scan:
    """Lay the head on the table in the pose of the acquisition's seed, and choose the slices."""
    rng = np.random.default_rng([acquisition.seed, 6])
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", rng.uniform(-1, 1, 3) * acquisition.degrees, degrees=True).as_matrix()
    turn[:3, 3] = rng.uniform(-1, 1, 3) * acquisition.millimetres
    to_centre, isocentre = np.eye(4), np.eye(4)
    to_centre[:3, 3] = -CENTRE
    isocentre[:3, 3] = (0.0, -4.0, round(float(rng.uniform(-420, -320)), 1))
    template_to_lps = isocentre @ turn @ LPS_TO_RAS @ to_centre

    step = 3
    thinned = head.hu[::step, ::step, ::step] > _SKIN_HU
    skin = apply(template_to_lps @ head.voxel_to_ras, np.argwhere(thinned) * float(step))
    vertex = float(skin[:, 2].max())
    skull = skin[skin[:, 2] > vertex - 110]
    middle = np.round((skull.min(axis=0) + skull.max(axis=0)) / 2)[:2]

    voxel_to_lps = np.diag([acquisition.pixel_mm, acquisition.pixel_mm, acquisition.slice_mm, 1.0])
    corner = middle - acquisition.pixel_mm * (acquisition.matrix - 1) / 2
    bottom = round(vertex + _ABOVE_VERTEX_MM - acquisition.slice_mm * (acquisition.slices - 1), 3)
    voxel_to_lps[:3, 3] = (*np.round(corner, 3), bottom)
    return Scan(
        acquisition,
        np.linalg.inv(template_to_lps).astype(np.float64),
        voxel_to_lps,
        holder_y_mm=float(skull[:, 1].max()) + 3.0,
        holder_end_z_mm=vertex - 175.0,
    )


def slabs(head: PhantomHead, scan: Scan) -> Iterator[tuple[int, NDArray[np.int16]]]:
    """The reconstructed images from feet to head, a few at a time: index of the first, and HU of shape (n, rows, columns)."""
    acquisition = scan.acquisition
    source = SimpleITK.GetImageFromArray(np.ascontiguousarray(head.hu.transpose(2, 1, 0)))
    source.SetOrigin(head.voxel_to_ras[:3, 3].tolist())
    transform = SimpleITK.AffineTransform(3)
    transform.SetMatrix(scan.lps_to_template[:3, :3].ravel().tolist())
    transform.SetTranslation(scan.lps_to_template[:3, 3].tolist())
    resample = SimpleITK.ResampleImageFilter()
    resample.SetTransform(transform)
    resample.SetInterpolator(SimpleITK.sitkLinear)
    resample.SetDefaultPixelValue(-1000.0)
    resample.SetOutputPixelType(SimpleITK.sitkFloat32)
    resample.SetOutputSpacing((acquisition.pixel_mm, acquisition.pixel_mm, acquisition.slice_mm))

    noise = _Noise(acquisition)
    holder, table = (_holder_hu(scan), _table_hu(scan)) if acquisition.holder else (None, None)
    for start in range(0, acquisition.slices, _SLAB):
        count = min(_SLAB, acquisition.slices - start)
        x, y, z = scan.voxel_to_lps[:3, 3].tolist()
        resample.SetOutputOrigin((x, y, z + start * acquisition.slice_mm))
        resample.SetSize((acquisition.matrix, acquisition.matrix, count))
        hu: Array = SimpleITK.GetArrayFromImage(resample.Execute(source))
        for k in range(count):
            support = holder if z + (start + k) * acquisition.slice_mm > scan.holder_end_z_mm else table
            if support is not None:
                # where a voxel holds skin and air, the support fills the share of the air
                np.maximum(hu[k], support, out=hu[k])
        noise.add(hu, start)
        yield start, np.rint(np.clip(hu, -1024, 3071)).astype(np.int16)


class _Noise:
    """Noise with the correlation of a soft kernel, from a pool that is shifted again for every block of slices."""

    def __init__(self, acquisition: Acquisition) -> None:
        self._rng = np.random.default_rng([acquisition.seed, 7])
        shape = (_SLAB, acquisition.matrix, acquisition.matrix)
        # FWHM of a soft head kernel: about 1.2 mm in the plane; slices overlap a little
        sigma = (0.4 / acquisition.slice_mm, 0.5 / acquisition.pixel_mm, 0.5 / acquisition.pixel_mm)
        pool = gaussian_filter(self._rng.standard_normal(shape, np.float32), sigma, mode="wrap", truncate=3.0)
        self._pool = pool * np.float32(acquisition.noise_hu / pool.std())

    def add(self, hu: Array, start: int) -> None:
        """Add noise in place to the images from index `start` on; call in order."""
        down, right = self._rng.integers(0, hu.shape[1:]).tolist()
        sign = np.float32(1 if start % (2 * _SLAB) else -1)
        hu += sign * np.roll(self._pool, (down, right), axis=(1, 2))[: hu.shape[0]]


def _plane(scan: Scan) -> tuple[Array, Array]:
    """LPS mm x (1, columns) and y (rows, 1) of the pixels of an image."""
    index = np.arange(scan.acquisition.matrix) * scan.acquisition.pixel_mm
    x, y = scan.voxel_to_lps[0, 3] + index, scan.voxel_to_lps[1, 3] + index
    return x[None, :].astype(np.float32), y[:, None].astype(np.float32)


def _shells(depth: Array, layers: list[tuple[float, float, float]]) -> Array:
    """HU of layers (from mm, to mm, HU) at `depth`, air elsewhere; edges softened over a millimetre."""
    hu = np.full(depth.shape, -1000, np.float32)
    for lower, upper, value in layers:
        cover = np.clip(np.minimum(depth - lower, upper - depth) + np.float32(0.5), 0, 1)
        hu += cover * (np.float32(value) - hu)
    return hu


def _holder_hu(scan: Scan) -> Array:
    """A trough of carbon fibre with a foam pad around the back of the head."""
    x, y = _plane(scan)
    middle = float(x.mean())
    centre_y = scan.holder_y_mm - 92
    radius = np.sqrt(((x - middle) / 1.02) ** 2 + (y - centre_y) ** 2)
    trough = _shells(radius - 92, [(0, 9, -940), (9, 11.5, -150), (11.5, 21, -960), (21, 23.5, -150)])
    return np.where(y > centre_y + 22, trough, np.float32(-1000))


def _table_hu(scan: Scan) -> Array:
    """The table top: a flat, slightly hollow board below the level of the holder."""
    x, y = _plane(scan)
    depth = y - (scan.holder_y_mm + 24) + 0.0012 * (x - float(x.mean())) ** 2
    return _shells(depth, [(0, 2.5, -120), (2.5, 30, -950), (30, 32.5, -120)])
