"""Which stacks the alignment's gate accepts and which it refuses.

    python -m benchmarks.alignment_gate

Heads of known placement in poses, cut, in thick slices, and under headers that are wrong about the patient's position; parts of the
body, drawn objects, magnetic resonance under the name of CT; and, where they lie beside the checkout, real series of scanners. Each
must be accepted or refused; the table in `docs/alignment.md` comes from here.
"""

from __future__ import annotations

import argparse
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from benchmarks.alignment import SHARED, Head, all_heads, phantom, posed
from conversion.alignment import align, check_quality
from conversion.convert import convert_series
from conversion.headers import read_instance
from conversion.media import find_files
from corewatch.errors import NotAnalysed
from corewatch.geometry import LPS_TO_RAS, NETWORK_TO_RAS, Matrix, apply
from corewatch.volumes import ScannerVolume
from foundation.template_files import template_file

Judged = tuple[str, str, Callable[[], ScannerVolume]]
"""What must become of a stack (accept or refuse), its name, and how to make it; making it may end in `NotAnalysed` too."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="one part alone: heads by name, bodies, drawn, resonance or real")
    options = parser.parse_args()
    others = {"bodies": bodies, "drawn": drawn, "resonance": resonance, "real": real}
    parts = [others[options.only]] if options.only in others else list(others.values()) if not options.only else []
    heads = [] if options.only in others else list(all_heads(options.only))
    report(chain(*(of_head(head) for head in heads), *(part() for part in parts)), options.threads)


def report(inputs: Iterable[Judged], threads: int) -> None:
    """Print, for stacks that must be accepted or refused, what became of them."""
    table = {(wanted, got): 0 for wanted in ("accept", "refuse") for got in ("accepted", "refused")}
    lowest, highest = 1.0, 0.0
    for wanted, name, made in inputs:
        score, reason = 0.0, "accepted"
        try:
            quality = align(made(), threads=threads).quality
            assert quality is not None
            score = quality.score
            check_quality(quality)
        except NotAnalysed as error:
            reason = error.reason.value
        got = "accepted" if reason == "accepted" else "refused"
        table[wanted, got] += 1
        lowest, highest = (min(lowest, score), highest) if wanted == "accept" else (lowest, max(highest, score))
        mark = "" if got.startswith(wanted) else "  <-- WRONG"
        print(f"  {wanted}: {name:58} score {score:.2f} {reason}{mark}", flush=True)
    print("  confusion:", ", ".join(f"to {w}, {g}: {n}" for (w, g), n in table.items()))
    print(f"  lowest score of the good {lowest:.2f}, highest of the bad {highest:.2f}")


_PATIENT = "GE_tilted_human"
"""The one series of a patient among those of scanners."""

TURNS = {
    "face to the back": ("z", [180.0]),
    "upside down, left to right": ("y", [180.0]),
    "upside down, face to the back": ("x", [180.0]),
    "on the left side": ("z", [90.0]),
    "on the right side": ("z", [-90.0]),
    "upside down, on the left side": ("xz", [180.0, 90.0]),
    "upside down, on the right side": ("xz", [180.0, -90.0]),
    "rolled": ("y", [90.0]),
    "chin up by 90": ("x", [90.0]),
    "chin down by 90": ("x", [-90.0]),
}
CUTS = {
    "cut below the skull base": ("accept", -35.0, 200.0),
    "cut at the vertex": ("accept", -200.0, 62.0),
    "cut above the orbits": ("refuse", 5.0, 200.0),
    "top third alone": ("refuse", 35.0, 200.0),
    "lower half alone": ("refuse", -200.0, 15.0),
    "neck alone": ("refuse", -200.0, -50.0),
}


def of_head(head: Head) -> Iterator[Judged]:
    """A head in poses, in thick slices, cut, turned as few patients lie, and under headers that are wrong about its position."""
    for seed in range(4):
        yield "accept", f"{head.name}, pose {seed}", partial(_posed, head, 200 + seed, 25, 25, descending=seed % 2 == 1)
    yield "accept", f"{head.name}, slices of 5 mm", partial(_posed, head, 210, 20, 15, slices=46)
    for axis, angle in (("z", 45.0), ("z", -45.0), ("x", -35.0), ("y", 35.0)):
        turn = np.asarray(Rotation.from_euler(axis, angle, degrees=True).as_matrix())
        yield "accept", f"{head.name}, truly turned by {angle:g} about {axis}", partial(_posed, head, 215, 4, 8, turn=turn)
    for name, (axes, angles) in TURNS.items():
        turn = np.asarray(Rotation.from_euler(axes, angles, degrees=True).as_matrix())
        yield "refuse", f"{head.name}, header lies: {name}", partial(_posed, head, 220, turn=turn)
    for name, (wanted, low, high) in CUTS.items():
        yield wanted, f"{head.name}, {name}", partial(_cut, head, low, high)


def _posed(*arguments: Any, **options: Any) -> ScannerVolume:
    return posed(*arguments, **options)[0]


def _cut(head: Head, low_mm: float, high_mm: float) -> ScannerVolume:
    return cut(*posed(head, 230, 6, 8), low_mm, high_mm)


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


def bodies() -> Iterator[Judged]:
    """Parts of a synthetic patient that are no heads."""
    head = phantom()
    for low, high in ((0, 90), (20, 120)):
        part = head.hu[:, :, low:high]
        matrix = LPS_TO_RAS @ head.voxel_to_ras
        yield "refuse", f"phantom's neck and shoulders, {high - low} mm", partial(ScannerVolume, part, matrix)


def drawn() -> Iterator[Judged]:
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
        yield "refuse", name, partial(ScannerVolume, noisy.astype(np.int16), matrix)


def resonance() -> Iterator[Judged]:
    """T1 images of heads under the name of CT, with the values that scanners store."""
    images = {"brain alone": template_file("t1")}
    with_skull = SHARED / "reference" / "template" / "coreTemplate-MNI152lin_T1_1mm.nii.gz"
    if with_skull.exists():
        images["with scalp"] = with_skull
    for name, path in images.items():
        image: Any = nib.load(path)
        values = image.get_fdata(dtype=np.float32)
        values = values / np.percentile(values, 99.5)
        for top, offset in ((250, 0), (1000, 0), (100, 0), (1500, -1024), (2000, -200)):
            hu = np.clip(np.rint(values * top + offset), -1024, 3071).astype(np.int16)
            matrix = LPS_TO_RAS @ image.affine
            yield "refuse", f"T1 as CT, {name}, {offset} to {top + offset} HU", partial(ScannerVolume, hu, matrix)


def patient(folder: Path) -> Iterator[Judged]:
    """A patient of a real scanner: tilted gantry, blocks of 4 and 7 mm; as it is, and under wrong positions."""
    volume = convert_series(find_files(folder))
    yield "accept", f"real: {folder.name}", lambda: volume
    for name, (axes, angles) in TURNS.items():
        wrong = np.eye(4)
        wrong[:3, :3] = Rotation.from_euler(axes, angles, degrees=True).as_matrix()
        yield "refuse", f"real: {folder.name}, header lies: {name}", partial(ScannerVolume, volume.hu, wrong @ volume.voxel_to_lps)


def real() -> Iterator[Judged]:
    """Series of scanners, where they lie beside the checkout, and slices of them piled up."""
    data = SHARED / "data"
    if not data.exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(data / "dcm_qa_ct.tar.xz") as archive:
            archive.extractall(folder, filter="data")
        for root in (Path(folder), data / "odd", data / "encodings"):
            series: dict[tuple[str, str], list[Path]] = defaultdict(list)
            for path in find_files(root):
                try:
                    series[str(path.parent.relative_to(root.parent)), read_instance(path).series_uid].append(path)
                except NotAnalysed:
                    continue
            for (name, _), files in sorted(series.items()):
                if Path(name).name == _PATIENT:
                    continue
                yield "refuse", f"real: {name}, {len(files)} files", partial(convert_series, files, threads=1)
        yield from patient(Path(folder) / _PATIENT)
    for name in ("head_slice/CT2_UNC.dcm", "chest_slice/LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1.dcm"):
        image = pydicom.dcmread(data / "encodings" / name)
        plane = image.pixel_array.astype(np.float32).T * float(image.RescaleSlope) + float(image.RescaleIntercept)
        hu = np.repeat(np.clip(np.rint(plane), -1024, 3071).astype(np.int16)[:, :, None], 44, axis=2)
        spacing = float(image.PixelSpacing[0])
        yield (
            "refuse",
            f"real: {name.split('/')[0]} piled up to 220 mm",
            partial(ScannerVolume, hu, np.diag([spacing, spacing, 5, 1])),
        )


if __name__ == "__main__":
    main()
