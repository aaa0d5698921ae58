"""How long a result takes from the volumes in memory to pages and DICOM objects on disk.

    python -m benchmarks.rendering --repeats 10 --sources 400

Draws a synthetic head. Each figure is the median of the repeats after one warm-up; processor time stands beside it, which a busy
machine does not change.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from corewatch.casefolder import CaseFolder
from corewatch.findings import Finding, ModelIdentity, Side
from corewatch.geometry import LPS_TO_RAS, NETWORK_SHAPE, NETWORK_TO_RAS, inverse
from corewatch.identity import case_key
from corewatch.result import Result
from corewatch.source_images import SourceImages, SourceSlice
from corewatch.states import CaseState
from corewatch.volumes import AlignmentQuality
from outputs.case import ReportedCase
from outputs.dicom import parametric_map, segmentation, structured_report
from outputs.dicom.encoding import Study
from outputs.dicom.secondary_capture import Page, encode
from outputs.dicom.source_outline import OutlinedSlices, outline
from outputs.pages.overlay_slices import render_overlays
from outputs.pages.summary_page import render_not_analysed, render_summary
from outputs.rendering import png, render_case


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--sources", type=int, default=400, help="source instances that every object names")
    options = parser.parse_args()
    hu, core_map = volumes()
    with tempfile.TemporaryDirectory() as folder:
        case = make_case(Path(folder), options.sources)
        summary = render_summary(case, hu, core_map)
        pages = [Page(np.asarray(summary, np.uint8), "summary")]
        pages += [
            Page(overlay.pixels, f"overlay-{overlay.k}", "", ("L", "P"), 0.4) for overlay in render_overlays(case, hu, core_map)
        ]
        study, images, placement, finding = Study.of(case), case.source_images, case.result.lps_to_voxel, case.result.finding
        if images is None or placement is None or finding is None:
            raise SystemExit("the synthetic case lacks a part")
        model = finding.model

        def outlined() -> OutlinedSlices:
            planes = outline(images, core_map, placement)
            if planes is None:
                raise SystemExit("the synthetic core touches no slice")
            return planes

        print(f"{len(outlined().numbers)} of {options.sources} slices have core")
        steps: dict[str, Callable[[], object]] = {
            "summary page": lambda: render_summary(case, hu, core_map),
            "summary page as PNG": lambda: png(summary),
            "page of a case not analysed": lambda: render_not_analysed(case),
            f"{len(pages) - 1} overlay slices": lambda: list(render_overlays(case, hu, core_map)),
            f"{len(pages)} Secondary Capture objects in memory": lambda: list(encode(Study.of(case), pages)),
            f"outline on {options.sources} slices of 512 x 512": lambda: outline(images, core_map, placement),
            "Segmentation, with its outline": lambda: segmentation.encode(study, images, outlined(), model),
            "Parametric Map": lambda: parametric_map.encode(study, images, core_map, placement, model),
            "structured report": lambda: structured_report.encode(study, finding),
            "whole report, fsynced": lambda: render_case(case, hu, core_map),
        }
        print(f"{'':45} {'wall':>9} {'processor':>11}")
        for name, step in steps.items():
            wall, processor = median_of(options.repeats, step)
            print(f"{name:45} {1000 * wall:6.0f} ms {1000 * processor:8.0f} ms")
        size = sum(path.stat().st_size for path in case.folder.path.rglob("*") if path.is_file())
        print(f"{'size on disk':45} {size / 2**20:6.1f} MiB")


def median_of(repeats: int, step: Callable[[], object]) -> tuple[float, float]:
    """Median wall and processor time in seconds, after one warm-up."""
    step()
    walls, processors = [], []
    for _ in range(repeats):
        wall, processor = time.perf_counter(), time.process_time()
        step()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    return statistics.median(walls), statistics.median(processors)


def volumes() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A noisy ellipsoid with a skull, and a core map in its left half."""
    i, j, k = np.indices(NETWORK_SHAPE, sparse=True)
    radius2 = ((i - 72.5) / 66) ** 2 + ((j - 90.5) / 84) ** 2 + ((k - 60.0) / 66) ** 2
    noise = np.random.default_rng(0).normal(0.0, 6.0, NETWORK_SHAPE)
    hu = np.clip(np.where(radius2 < 0.85, 38, np.where(radius2 < 1.0, 100, 0)) + noise, 0, 100).astype(np.uint8)
    distance2 = (i - 105) ** 2 + (j - 125) ** 2 + (k - 75) ** 2
    return hu, np.clip(100 - distance2 / 4.0, 0, 100).astype(np.uint8)


def make_case(folder: Path, sources: int) -> ReportedCase:
    """An alert, with a CT header to take over."""
    instances = tuple((str(CTImageStorage), f"1.2.826.0.1.3.{number}") for number in range(1, sources + 1))
    finding = Finding(34.2, (28.1, 41.7), Side.LEFT, 0.97, True, 20.0, False, ModelIdentity("phantom-demo", "1.0", "0" * 64))
    result = Result(
        "k3v9x2mqpt",
        CaseState.DELIVERING,
        "1.2.826.0.1.2",
        finding=finding,
        lps_to_voxel=inverse(LPS_TO_RAS @ NETWORK_TO_RAS),
        quality=AlignmentQuality(0.93, -0.2, 0.1),
    )
    step = 180.0 / sources
    slices = tuple(SourceSlice(*one, 1, (-115.0, -95.0, -65.0 + step * n)) for n, one in enumerate(instances))
    images = SourceImages("1.2.826.0.1.9", 512, 512, (0.45, 0.45), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), slices)
    case_folder, now = CaseFolder(folder), datetime.now(UTC)
    header = Dataset()
    header.SOPClassUID, header.SOPInstanceUID = instances[0]
    header.StudyInstanceUID, header.SeriesInstanceUID, header.PatientName, header.PatientID = (
        "1.2.826.0.1.1",
        "1.2.826.0.1.2",
        "A^B",
        "1",
    )
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.save_as(case_folder.source_header, enforce_file_format=True)
    key = case_key("1.2.826.0.1.2", [uid for _, uid in instances])
    return ReportedCase(result.case_id, key, result, case_folder, now, now, case_folder.source_header, instances, images)


if __name__ == "__main__":
    main()
