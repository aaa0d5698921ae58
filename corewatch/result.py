"""`result.json`: the result that `corewatch run` prints and every case keeps. Other tools read it; its names are a contract."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from corewatch import RESEARCH_LABEL
from corewatch.cautions import Caution
from corewatch.errors import NotAnalysed
from corewatch.findings import Finding
from corewatch.geometry import Matrix
from corewatch.reasons import Reason
from corewatch.states import CaseState
from corewatch.volumes import AlignmentQuality


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds spent in each stage; None where the stage was not reached.

    `last_image_to_alert` runs from the moment the last image was stored to the moment the first alert was accepted.
    """

    convert: float | None = None
    align: float | None = None
    detect: float | None = None
    render: float | None = None
    deliver: float | None = None
    last_image_to_alert: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """Everything a reader of a case needs, free of patient data except the series UID.

    `notes` describe changes to the series: dropped instances, copies, a sheared gantry tilt, interpolation. `cautions` say what
    limits the finding, the gravest first.
    """

    case_id: str
    state: CaseState
    series_uid: str | None
    revision: int = 1
    reason: Reason | None = None
    detail: str = ""
    notes: tuple[str, ...] = ()
    cautions: tuple[Caution, ...] = ()
    finding: Finding | None = None
    lps_to_voxel: Matrix | None = None
    quality: AlignmentQuality | None = None
    timings: Timings = field(default_factory=Timings)
    files: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The JSON object: flat names with their units, matrices in LPS mm."""
        finding, quality = self.finding, self.quality
        return {
            "case_id": self.case_id,
            "state": str(self.state),
            "reason": None if self.reason is None else str(self.reason),
            "reason_text": None if self.reason is None else str(NotAnalysed(self.reason, self.detail)),
            "remedy": None if self.reason is None else self.reason.remedy,
            "notes": list(self.notes),
            "cautions": [one.to_json() for one in self.cautions],
            "series_uid": self.series_uid,
            "revision": self.revision,
            "model": None if finding is None else asdict(finding.model),
            "core_ml": None if finding is None else round(finding.core_ml, 3),
            "core_ml_interval": None
            if finding is None or finding.core_ml_interval is None
            else [round(v, 3) for v in finding.core_ml_interval],
            "model_rmse_ml": None if finding is None else finding.model_rmse_ml,
            "perturbations": None if finding is None else list(finding.perturbations),
            "side": None if finding is None else str(finding.side),
            "side_confidence": None if finding is None else round(finding.side_confidence, 3),
            "alert": None if finding is None else finding.alert,
            "alert_ml": None if finding is None else finding.alert_ml,
            "unstable": None if finding is None else finding.unstable,
            "alignment": None
            if self.lps_to_voxel is None
            else {
                "matrix_lps_mm_to_voxel": self.lps_to_voxel.tolist(),
                "matrix_voxel_to_lps_mm": np.linalg.inv(self.lps_to_voxel).tolist(),
                "score": None if quality is None else round(quality.score, 4),
                "midline_mm": None if quality is None else round(quality.midline_mm, 3),
                "midline_degrees": None if quality is None else round(quality.midline_degrees, 3),
            },
            "timings_s": {k: None if v is None else round(v, 3) for k, v in asdict(self.timings).items()},
            "files": self.files,
            "notice": RESEARCH_LABEL,
        }

    def dumps(self) -> str:
        """The JSON text of `to_json`, indented."""
        return json.dumps(self.to_json(), indent=2)
