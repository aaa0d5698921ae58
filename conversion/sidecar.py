"""`aligned.json`, sidecar of `aligned.nii.gz` in the names of BIDS derivatives: template, matrices, source grid, alignment quality.

It holds no patient data: no UID, no path, no date.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from conversion.nifti import HU_RANGE
from corewatch import RESEARCH_LABEL, __version__
from corewatch.geometry import NETWORK_TO_RAS
from corewatch.volumes import AlignedHead, ScannerVolume
from foundation.durable import replacing

SPACE = "MNI152NLin2009aSym"
"""The template's name in BIDS' list of standard spaces; nilearn carries a copy."""


def write_aligned_sidecar(path: Path, head: AlignedHead, source: ScannerVolume | None) -> None:
    """Write the sidecar of an aligned head.

    Parameters
    ----------
    path
        `aligned.json`.
    source
        The stack that the head was resampled from; None where the input was aligned already.
    """
    with replacing(path) as file:
        file.write((json.dumps(describe(head, source), indent=2) + "\n").encode())


def describe(head: AlignedHead, source: ScannerVolume | None) -> dict[str, Any]:
    """The sidecar's object: CamelCase as BIDS has it, matrices named as in `result.json`."""
    to_voxel, quality = head.lps_to_voxel, head.quality
    return {
        "Description": "CT angiography of the head, rigidly aligned to the network's grid, HU clipped, skull kept",
        "Units": "HU",
        "ValueRange": list(HU_RANGE),
        "SpatialReference": SPACE,
        "Resolution": "1 mm, isotropic",
        "SkullStripped": False,
        "VoxelAxes": ["L", "A", "S"],
        "MatrixVoxelToTemplateRasMm": NETWORK_TO_RAS.tolist(),
        "Alignment": None
        if to_voxel is None
        else {
            "matrix_lps_mm_to_voxel": to_voxel.tolist(),
            "matrix_voxel_to_lps_mm": np.linalg.inv(to_voxel).tolist(),
            "score": None if quality is None else quality.score,
            "midline_mm": None if quality is None else quality.midline_mm,
            "midline_degrees": None if quality is None else quality.midline_degrees,
            "figures": {} if quality is None else dict(sorted(quality.parts.items())),
        },
        "Source": None
        if source is None
        else {
            "Columns": source.hu.shape[0],
            "Rows": source.hu.shape[1],
            "Slices": source.hu.shape[2],
            "VoxelSizeMm": [round(float(size), 4) for size in source.spacing_mm],
            "matrix_voxel_to_lps_mm": source.voxel_to_lps.tolist(),
        },
        "GeneratedBy": [{"Name": "corewatch", "Version": __version__}],
        "Notice": RESEARCH_LABEL,
    }
