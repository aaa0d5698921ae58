"""How well and how fast heads are aligned, and what is refused.

    python -m benchmarks.alignment --poses 40

Heads of known placement are put into random poses, aligned, and compared: synthetic heads with neck, holder and table; and, where
the reference data lies beside the checkout, the mean CT of 30 adults and a published patient. Then the time for a stack of
512 x 512 x 400. What must be accepted or refused: `benchmarks.alignment_gate`. The figures in `docs/alignment.md` come from both.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from conversion.alignment import align, check_quality
from corewatch.errors import NotAnalysed
from corewatch.findings import Side
from corewatch.geometry import LPS_TO_RAS, NETWORK_TO_RAS, Matrix, apply
from corewatch.volumes import ScannerVolume
from phantom.head import HeadSpec, PhantomHead, make_head
from phantom.scan import Acquisition, place, slabs

SHARED = (Path(__file__).resolve().parents[1] / ".." / "shared").resolve()
MATRIX, PIXEL_MM, SLICES, COVERAGE_MM = 256, 0.976, 200, 230.0
BRAIN_CENTRE = np.array([0.0, -18.0, 12.0])
RAS_TO_NETWORK = np.linalg.inv(NETWORK_TO_RAS)

ON_TABLE, MEAN, PATIENT = "phantom, holder, table", "mean CT of 30 adults", "published patient"

Posed = tuple[ScannerVolume, Matrix]
"""A stack and the right scanner LPS mm -> network voxel."""


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A head of known placement: HU, and voxel -> RAS mm of the network's frame."""

    name: str
    hu: NDArray[np.float32]
    to_ras: Matrix
    clipped: bool = False
    """HU end at 0 and 100: air and bone are put back."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--poses", type=int, default=40)
    parser.add_argument("--degrees", type=float, default=25.0)
    parser.add_argument("--millimetres", type=float, default=25.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=("poses", "time"), help="one part alone")
    parser.add_argument("--heads", default="", help="only heads whose name holds this text, such as patient")
    options = parser.parse_args()
    heads = list(all_heads(options.heads))
    if options.only in (None, "poses"):
        print(f"{options.poses} poses up to {options.degrees:g} degrees and {options.millimetres:g} mm, half of them descending")
        for head in heads:
            volumes = (posed(head, n, options.degrees, options.millimetres, descending=n % 2 == 1) for n in range(options.poses))
            report_poses(head.name, volumes, options.threads)
        if options.heads in ON_TABLE:
            volumes = (scanned(n, options.degrees, options.millimetres) for n in range(options.poses))
            report_poses(ON_TABLE, volumes, options.threads)
    if options.only in (None, "time"):
        report_time(heads[0], options.threads)


def all_heads(wanted: str) -> Iterator[Head]:
    """The heads that can be had here and whose name holds `wanted`."""
    for seed, core_ml, side in ((0, 0.0, Side.NONE), (1, 80.0, Side.LEFT), (2, 40.0, Side.RIGHT)):
        name = f"phantom {seed}, {core_ml:g} mL"
        if wanted in name:
            head = make_head(HeadSpec(seed, core_ml, side))
            yield Head(name, head.hu.astype(np.float32), head.voxel_to_ras)
    mean = SHARED / "reference" / "template" / "mean_ct_head_30_adults_hu.nii.gz"
    if wanted in MEAN and mean.exists():
        image = nib.load(mean)
        yield Head(MEAN, image.get_fdata(dtype=np.float32), image.affine)
    patient = SHARED / "reference" / "deepsymnet" / "sub-0151_aligned.nii.gz"
    if wanted in PATIENT and patient.exists():
        yield Head(PATIENT, nib.load(patient).get_fdata(dtype=np.float32), np.array(NETWORK_TO_RAS), clipped=True)


def posed(
    head: Head,
    seed: int,
    degrees: float = 8.0,
    millimetres: float = 8.0,
    *,
    descending: bool = False,
    turn: Matrix | None = None,
    slices: int = SLICES,
    matrix: int = MATRIX,
) -> Posed:
    """Scan a head in a pose drawn from `seed`; `turn` is a further rotation (3, 3) that the header knows nothing of."""
    rng = np.random.default_rng(seed)
    rotation = Rotation.from_euler("xyz", rng.uniform(-degrees, degrees, 3), degrees=True).as_matrix()
    rotation = rotation if turn is None else rotation @ turn
    lps_to_ras = np.eye(4)
    lps_to_ras[:3, :3] = rotation @ LPS_TO_RAS[:3, :3]
    lps_to_ras[:3, 3] = BRAIN_CENTRE + rng.uniform(-millimetres, millimetres, 3)
    pixel_mm, slice_mm = PIXEL_MM * MATRIX / matrix, COVERAGE_MM / slices
    shape = (matrix, matrix, slices)
    voxel_to_lps = np.diag([pixel_mm, pixel_mm, -slice_mm if descending else slice_mm, 1.0])
    voxel_to_lps[:3, 3] = -voxel_to_lps[:3, :3] @ ((np.array(shape) - 1) / 2)
    to_head = np.linalg.inv(head.to_ras) @ lps_to_ras @ voxel_to_lps
    hu = np.empty(shape, np.int16, order="F")
    for k in range(0, slices, 40):
        part = hu[:, :, k : k + 40]
        offset = to_head[:3, 3] + to_head[:3, 2] * k
        outside = -1.0 if head.clipped else -1000.0
        values = affine_transform(head.hu, to_head[:3, :3], offset, output_shape=part.shape, order=1, cval=outside)
        air, bone = values <= 0, values >= 99
        values += rng.standard_normal(part.shape, np.float32) * 5
        if head.clipped:
            values[bone], values[air] = 700, -1000
        part[:] = np.rint(np.clip(values, -1024, 3071))
    return ScannerVolume(hu, voxel_to_lps), RAS_TO_NETWORK @ lps_to_ras


def scanned(seed: int, degrees: float, millimetres: float) -> Posed:
    """Scan a synthetic head as the phantom's own scanner does, with holder and table."""
    head = phantom()
    acquisition = Acquisition(SLICES, COVERAGE_MM, MATRIX, PIXEL_MM, degrees, millimetres, seed=seed)
    scan = place(head, acquisition)
    hu = np.concatenate([images for _, images in slabs(head, scan)])
    return ScannerVolume(hu.transpose(2, 1, 0), scan.voxel_to_lps), scan.lps_to_network


@cache
def phantom() -> PhantomHead:
    """A synthetic head with neck and shoulders."""
    return make_head(HeadSpec(3, 20.0, Side.RIGHT))


def report_poses(name: str, volumes: Iterator[Posed], threads: int) -> None:
    """Print how far the poses of one head scatter, and where they come to lie."""
    errors, refused, left = [], 0, []
    for volume, truth in volumes:
        try:
            head = align(volume, threads=threads)
            check_quality(head.quality)
        except NotAnalysed:
            refused += 1
            continue
        errors.append(head.lps_to_voxel @ np.linalg.inv(truth))
        left.append((head.quality.midline_mm, head.quality.midline_degrees))
    if not errors:
        print(f"  {name:24} all refused")
        return
    grid = np.stack(np.meshgrid([15, 71.5, 128], [20, 90, 160], [20, 64, 115], indexing="ij"), -1).reshape(-1, 3).astype(float)
    moved = np.array([apply(e, grid) for e in errors])
    spread = np.linalg.norm(moved - moved.mean(axis=0), axis=2)
    placed = np.linalg.norm(moved.mean(axis=0) - grid, axis=1)
    centre = np.array([71.5, 90.0, 64.0])
    offset = np.array([apply(e, centre)[0] - 71.5 for e in errors])
    normals = np.array([e[:3, 0] for e in errors])
    tilt = np.degrees(np.arcsin(np.clip(np.linalg.norm(normals[:, 1:], axis=1), 0, 1)))
    own = np.degrees(np.linalg.norm(normals[:, 1:] - normals[:, 1:].mean(axis=0), axis=1))
    print(
        f"  {name:24} refused {refused}; same point, mm: median {np.median(spread):.2f}, 95 % {np.percentile(spread, 95):.2f}, "
        f"max {spread.max():.2f}; mean placement {placed.mean():.2f} mm; midline against truth: {offset.mean():+.2f} mm "
        f"(spread {np.abs(offset - offset.mean()).max():.2f}), {tilt.max():.2f} degrees at most (spread {own.max():.2f}); "
        f"reported rest: {max(m for m, _ in left):.2f} mm, {max(d for _, d in left):.2f} degrees at most"
    )


def report_time(head: Head, threads: int) -> None:
    """Print the time from a full stack in memory to the aligned head."""
    for order in ("F", "C"):
        volume, _ = posed(head, 1, slices=400, matrix=512)
        volume = ScannerVolume(np.asarray(volume.hu, order=order), volume.voxel_to_lps)
        align(volume, threads=threads)
        wall, cpu = [], []
        for _ in range(7):
            clock, used = time.perf_counter(), time.process_time()
            align(volume, threads=threads)
            wall.append(time.perf_counter() - clock)
            cpu.append(time.process_time() - used)
        kind = "slice by slice" if order == "F" else "column by column"
        print(
            f"512 x 512 x 400, stored {kind}, {threads} threads: {min(wall):.2f} s best, {np.median(wall):.2f} s median, "
            f"{np.median(cpu):.2f} s of processor"
        )


if __name__ == "__main__":
    main()
