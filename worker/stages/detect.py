"""Stage `detect`: run the model on the aligned head; finding and core map."""

from __future__ import annotations

import time

from conversion.alignment.native import map_to_scanner
from conversion.nifti import read_aligned, write_core_map, write_native_map
from corewatch.casefolder import CaseFolder
from corewatch.clock import Clock, utc_now
from worker.models.detector import Detector
from worker.stages.case_files import FindingRecord, PreparedRecord


def detect(folder: CaseFolder, detector: Detector, *, alert_ml: float, clock: Clock = utc_now) -> FindingRecord:
    """Run the model; writes `core_map.nii.gz`, `core_map_native.nii.gz` (where the scanner's grid is known) and `finding.json`.

    Parameters
    ----------
    alert_ml
        Core volume in mL from which the case is an alert.

    Raises
    ------
    NotAnalysed
        The aligned head is not on the network's grid.
    OperatorNeeded
        The model's output is not a number.
    """
    started = time.perf_counter()
    prepared = PreparedRecord.read(folder)
    detection = detector.detect(read_aligned(folder.aligned).hu, alert_ml=alert_ml)
    write_core_map(folder.core_map, detection.core_map)
    if prepared.grid is not None and prepared.lps_to_voxel is not None:
        shape, voxel_to_lps = prepared.grid.shape, prepared.grid.voxel_to_lps
        native = map_to_scanner(detection.core_map, prepared.lps_to_voxel, shape, voxel_to_lps)
        write_native_map(folder.core_map_native, native, voxel_to_lps)
    found = FindingRecord(detection.finding, at=clock(), detect_s=time.perf_counter() - started)
    found.write(folder)
    return found
