"""How long a CTA head takes from DICOM files to a volume, and how much memory, beside dicom2nifti and dcm2niix.

    python -m benchmarks.conversion --slices 400 --repeats 5

Makes a synthetic series (512 x 512, noise like a scanner's) in several encodings, and times each converter on the same files, warm,
in turns, so that a busy machine is unfair to all alike. dicom2nifti and corewatch are timed to the volume in memory, dcm2niix to an
uncompressed NIfTI file, which is all that it can do. dicom2nifti takes part without compression only, where it is at its best.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pydicom
from dicom2nifti.convert_dicom import dicom_array_to_nifti
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless, generate_uid

from conversion.convert import convert_series
from conversion.headers import read_instance

SIZE = 512
PIXEL_MM = 0.45


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where to make the series (default: a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for syntax in (ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless):
            series = Path(folder) / str(syntax)
            make_series(series, options.slices, syntax, options.threads)
            os.sync()  # what was just written would else go to the disk while the first converters read
            compare(series, syntax.name, options.repeats, options.threads)


def compare(series: Path, name: str, repeats: int, threads: int) -> None:
    """Time all converters on one series and print medians and ratios."""
    paths = sorted(series.iterdir())
    size = sum(path.stat().st_size for path in paths) / 2**20
    print(f"\n{name}: {len(paths)} files, {size:.0f} MiB")
    header = median_of(1, lambda: [read_instance(path) for path in paths])
    print(f"  {'headers only (read_instance)':34} {header:8.3f} s   {1000 * header / len(paths):.2f} ms a file")
    with tempfile.TemporaryDirectory(dir=series.parent) as out:
        converters: dict[str, Callable[[], object]] = {
            "corewatch": partial(convert_series, paths, threads=threads),
        }
        if name == ExplicitVRLittleEndian.name:
            converters["dicom2nifti"] = partial(with_dicom2nifti, paths)
        if dcm2niix := find_dcm2niix():
            command = [dcm2niix, "-z", "n", "-b", "n", "-w", "1", "-o", out, str(series)]
            converters["dcm2niix"] = partial(subprocess.run, command, check=True, capture_output=True)
        took: dict[str, list[float]] = {label: [] for label in converters}
        for _ in range(repeats):
            for label, convert in converters.items():
                took[label].append(median_of(1, convert))
    ours = statistics.median(took["corewatch"])
    for label, times in took.items():
        middle = statistics.median(times)
        print(f"  {label:34} {middle:8.3f} s   x {middle / ours:5.2f}   ({min(times):.3f} - {max(times):.3f})")
    if "dcm2niix" not in took:
        print("  dcm2niix is not installed")
    volume = 2 * SIZE * SIZE * len(paths) / 2**20
    most = memory_of(paths, threads)
    print(f"  {'memory beyond the start of Python':34} {most:8.0f} MiB  {most / volume:.2f} times the volume")


def find_dcm2niix() -> str | None:
    """The program itself: the wheel of that name puts a Python script before it, which takes time of its own."""
    spec = find_spec("dcm2niix")
    inside = None if spec is None or spec.origin is None else Path(spec.origin).with_name("dcm2niix")
    return str(inside) if inside is not None and inside.is_file() else shutil.which("dcm2niix")


def memory_of(paths: list[Path], threads: int) -> float:
    """Peak resident memory in MiB of one conversion in a process of its own, less what its imports take."""
    code = (
        "import json, sys; from pathlib import Path; from conversion.convert import convert_series\n"
        "peak = lambda: int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
        "before = peak()\n"
        "convert_series([Path(p) for p in json.load(sys.stdin)], threads=int(sys.argv[1]))\n"
        "print((peak() - before) / 1024)"
    )
    told = json.dumps([str(path) for path in paths])
    done = subprocess.run([sys.executable, "-c", code, str(threads)], input=told, capture_output=True, text=True, check=True)
    return float(done.stdout)


def median_of(repeats: int, work: Callable[[], object]) -> float:
    """Median wall-clock time in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def with_dicom2nifti(paths: list[Path]) -> object:
    """To the volume in memory, as a program that uses the library does it."""
    return dicom_array_to_nifti([pydicom.dcmread(path) for path in paths], None, reorient_nifti=False)["NII"].get_fdata(
        dtype=np.float32
    )


def make_series(folder: Path, slices: int, syntax: str, processes: int) -> None:
    """Write a synthetic head, one slice at a time."""
    folder.mkdir(parents=True)
    uids = (generate_uid(), generate_uid(), generate_uid())
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(partial(write_slice, folder, slices, syntax, uids), range(slices), chunksize=8))


def write_slice(folder: Path, slices: int, syntax: str, uids: tuple[str, str, str], k: int) -> None:
    """One slice of an ellipsoid of skull, brain and vessels in air, with noise of 8 HU."""
    random = np.random.default_rng(k)
    y, x = (np.mgrid[:SIZE, :SIZE] - SIZE / 2) / (SIZE / 2)
    z = 2 * (k + 0.5) / slices - 1
    radius = np.sqrt((x / 0.68) ** 2 + (y / 0.85) ** 2 + (z / 1.05) ** 2)
    hu = np.select([radius < 0.88, radius < 0.97, radius < 1.0], [35.0, 900.0, 20.0], -1000.0)
    hu[(np.hypot(x - 0.2 * z, y) < 0.015) & (radius < 0.88)] = 320.0
    hu += random.normal(0.0, 8.0, hu.shape)

    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID = uids
    d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = CTImageStorage
    d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    d.Modality, d.ImageType, d.Manufacturer = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], "SYNTHETIC"
    d.PatientName, d.PatientID = "Synthetic^Head", "BENCHMARK"
    d.SeriesNumber, d.InstanceNumber, d.AcquisitionNumber, d.SliceThickness = 1, k + 1, 1, 0.45
    d.ImagePositionPatient = [-SIZE / 2 * PIXEL_MM, -SIZE / 2 * PIXEL_MM, round(0.45 * k, 3)]
    d.ImageOrientationPatient, d.PixelSpacing = [1, 0, 0, 0, 1, 0], [PIXEL_MM, PIXEL_MM]
    d.Rows, d.Columns, d.SamplesPerPixel, d.PhotometricInterpretation = SIZE, SIZE, 1, "MONOCHROME2"
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 12, 11, 0
    d.RescaleIntercept, d.RescaleSlope = -1024, 1
    d.PixelData = np.clip(np.rint(hu + 1024), 0, 4095).astype("<u2").tobytes()
    if syntax != ExplicitVRLittleEndian:
        d.compress(syntax, generate_instance_uid=False)
    d.save_as(folder / f"IM{k:04d}.dcm", enforce_file_format=True)


if __name__ == "__main__":
    main()
