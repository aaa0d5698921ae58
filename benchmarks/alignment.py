"""How well and how fast heads are aligned, and what is refused.

    python -m benchmarks.alignment --poses 40

Heads of known placement are put into random poses, aligned, and compared: synthetic heads with neck, holder and table; and, where
the reference data lies beside the checkout, the mean CT of 30 adults and a published patient. Then a list of stacks that must be
accepted or refused, and the time for a stack of 512 x 512 x 400. Every figure in `docs/alignment.md` comes from here.
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
    parser.add_argument("--only", choices=("poses", "gate", "time"), help="one part alone")
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
    if options.only in (None, "gate"):
        report_gate(heads, options.threads, whole=not options.heads)
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
    head = _phantom()
    acquisition = Acquisition(SLICES, COVERAGE_MM, MATRIX, PIXEL_MM, degrees, millimetres, seed=seed)
    scan = place(head, acquisition)
    hu = np.concatenate([images for _, images in slabs(head, scan)])
    return ScannerVolume(hu.transpose(2, 1, 0), scan.voxel_to_lps), scan.lps_to_network


@cache
def _phantom() -> PhantomHead:
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
    grid = np.stack(np.meshgrid([15, 72, 129], [20, 90, 160], [20, 64, 115], indexing="ij"), -1).reshape(-1, 3).astype(float)
    moved = np.array([apply(e, grid) for e in errors])
    spread = np.linalg.norm(moved - moved.mean(axis=0), axis=2)
    placed = np.linalg.norm(moved.mean(axis=0) - grid, axis=1)
    centre = np.array([72.0, 90.0, 64.0])
    offset = np.array([apply(e, centre)[0] - 72.0 for e in errors])
    normals = np.array([e[:3, 0] for e in errors])
    tilt = np.degrees(np.arcsin(np.clip(np.linalg.norm(normals[:, 1:], axis=1), 0, 1)))
    own = np.degrees(np.linalg.norm(normals[:, 1:] - normals[:, 1:].mean(axis=0), axis=1))
    print(
        f"  {name:24} refused {refused}; same point, mm: median {np.median(spread):.2f}, 95 % {np.percentile(spread, 95):.2f}, "
        f"max {spread.max():.2f}; mean placement {placed.mean():.2f} mm; midline against truth: {offset.mean():+.2f} mm "
        f"(spread {np.abs(offset - offset.mean()).max():.2f}), {tilt.max():.2f} degrees at most (spread {own.max():.2f}); "
        f"reported rest: {max(m for m, _ in left):.2f} mm, {max(d for _, d in left):.2f} degrees at most"
    )


def report_gate(heads: list[Head], threads: int, whole: bool) -> None:
    """Print, for stacks that must be accepted or refused, what became of them."""
    table = {(wanted, got): 0 for wanted in ("accept", "refuse") for got in ("accepted", "refused")}
    lowest, highest = 1.0, 0.0
    print("gate")
    for wanted, name, volume in gate_inputs(heads, whole):
        score, reason = 0.0, "accepted"
        try:
            quality = align(volume, threads=threads).quality
            score = quality.score
            check_quality(quality)
        except NotAnalysed as error:
            reason = error.reason.value
        got = "accepted" if reason == "accepted" else "refused"
        table[wanted, got] += 1
        if wanted == "accept":
            lowest = min(lowest, score)
        else:
            highest = max(highest, score)
        mark = "" if got.startswith(wanted) else "  <-- WRONG"
        print(f"  {wanted}: {name:44} score {score:.2f} {reason}{mark}", flush=True)
    print("  confusion:", ", ".join(f"to {w}, {g}: {n}" for (w, g), n in table.items()))
    print(f"  lowest score of the good {lowest:.2f}, highest of the bad {highest:.2f}")


TURNS = {
    "face to the back": ("z", 180.0),
    "upside down, left to right": ("y", 180.0),
    "upside down, face to the back": ("x", 180.0),
    "on the left side": ("z", 90.0),
    "on the right side": ("z", -90.0),
    "rolled": ("y", 90.0),
    "chin up by 90": ("x", 90.0),
    "chin down by 90": ("x", -90.0),
}
CUTS = {
    "cut below the skull base": ("accept", -35.0, 200.0),
    "cut at the vertex": ("accept", -200.0, 62.0),
    "cut above the orbits": ("refuse", 5.0, 200.0),
    "top third alone": ("refuse", 35.0, 200.0),
    "lower half alone": ("refuse", -200.0, 15.0),
    "neck alone": ("refuse", -200.0, -50.0),
}


def gate_inputs(heads: list[Head], whole: bool) -> Iterator[tuple[str, str, ScannerVolume]]:
    """Stacks with what must become of them: (accept or refuse, name, volume); `whole` adds those that are no heads."""
    for head in heads:
        for seed in range(4):
            yield "accept", f"{head.name}, pose {seed}", posed(head, 200 + seed, 25, 25, descending=seed % 2 == 1)[0]
        yield "accept", f"{head.name}, slices of 5 mm", posed(head, 210, 20, 15, slices=46)[0]
        for name, (axis, angle) in TURNS.items():
            turn = Rotation.from_euler(axis, angle, degrees=True).as_matrix()
            yield "refuse", f"{head.name}, header lies: {name}", posed(head, 220, turn=turn)[0]
        for name, (wanted, low, high) in CUTS.items():
            yield wanted, f"{head.name}, {name}", cut(*posed(head, 230, 6, 8), low, high)
    if whole:
        yield from bodies()
        yield from drawn()


def cut(volume: ScannerVolume, truth: Matrix, low_mm: float, high_mm: float) -> ScannerVolume:
    """Keep the slices whose middle lies between two heights, RAS mm of the template."""
    middle = np.array([volume.hu.shape[0] / 2, volume.hu.shape[1] / 2, 0.0])
    slices = volume.hu.shape[2]
    line = middle + np.arange(slices)[:, None] * np.array([0.0, 0.0, 1.0])
    height = apply(NETWORK_TO_RAS @ truth @ volume.voxel_to_lps, line)[:, 2]
    kept = np.flatnonzero((height >= low_mm) & (height <= high_mm))
    matrix = volume.voxel_to_lps.copy()
    matrix[:3, 3] = apply(volume.voxel_to_lps, np.array([0.0, 0.0, float(kept[0])]))
    return ScannerVolume(volume.hu[:, :, kept[0] : kept[-1] + 1], matrix)


def bodies() -> Iterator[tuple[str, str, ScannerVolume]]:
    """Parts of a synthetic patient that are no heads."""
    head = _phantom()
    for low, high in ((0, 90), (20, 120)):
        part = head.hu[:, :, low:high]
        matrix = LPS_TO_RAS @ head.voxel_to_ras
        yield "refuse", f"phantom's neck and shoulders, {high - low} mm", ScannerVolume(part, matrix)


def drawn() -> Iterator[tuple[str, str, ScannerVolume]]:
    """Quality phantoms and parts of the body, drawn."""
    step = 2.0
    x, y, z = (np.indices((128, 128, 110)) - np.array([64, 64, 55])[:, None, None, None]) * step
    radius, tube = np.sqrt(x**2 + y**2 + z**2), np.hypot(x, y)
    egg = np.sqrt((x / 70) ** 2 + (y / 88) ** 2 + (z / 70) ** 2)
    rng = np.random.default_rng(0)

    def solid(inside: NDArray[np.bool_], value: float = 40.0) -> NDArray[np.float64]:
        return np.where(inside, value, -1000.0)

    def shell(inner: NDArray[np.bool_], outer: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.where(inner, 40.0, np.where(outer, 900.0, -1000.0))

    lump = solid((np.hypot(x - 50, y) < 55) | (np.hypot(x + 50, y) < 55), 50)
    for side in (-50, 50):
        lump[np.hypot(x - side, y) < 22] = 300
        lump[np.hypot(x - side, y) < 18] = -60
    chest = solid(np.hypot(x / 1.2, y / 0.9) < 100, 45)
    chest[np.hypot(x, y - 60) < 18] = 400
    chest[(np.hypot(x - 50, y) < 35) | (np.hypot(x + 50, y) < 35)] = -850
    chest[(np.abs(np.hypot(x / 1.1, y / 0.8) - 95) < 4) & (z % 24 < 9)] = 500
    objects = {
        "ball of water": solid(radius < 80),
        "cylinder of water": solid(tube < 90),
        "box of water": solid(np.maximum(np.maximum(abs(x), abs(y)), abs(z)) < 75),
        "ball of water in a shell of bone": shell(radius < 78, radius < 84),
        "cylinder of water in a shell of bone": shell(tube < 75, tube < 81),
        "egg of water in a shell of bone": shell(egg < 1, egg < 1.08),
        "closed can of water in bone": shell(np.maximum(tube, abs(z) * 1.1) < 75, np.maximum(tube, abs(z) * 1.1) < 81),
        "two knees": lump,
        "chest": chest,
        "air": solid(radius < 0),
        "bone alone": solid(egg < 1, 900),
        "noise": rng.normal(0, 300, x.shape),
    }
    matrix = np.diag([step, step, step, 1.0])
    for name, values in objects.items():
        noisy = np.clip(values + rng.normal(0, 8, values.shape), -1024, 3071)
        yield "refuse", name, ScannerVolume(noisy.astype(np.int16), matrix)


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
