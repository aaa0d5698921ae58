"""Files of a case folder that one stage writes for the next: `prepared.json`, `finding.json`; and the `Result` made from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, astuple, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import TypeAdapter

from corewatch.casefolder import CaseFolder
from corewatch.cautions import Caution, CautionCode, in_order
from corewatch.findings import Finding
from corewatch.geometry import Matrix
from corewatch.reasons import Reason
from corewatch.result import Result, Timings
from corewatch.source_images import SourceImages
from corewatch.states import CaseState
from corewatch.volumes import AlignmentQuality
from foundation.durable import GROUP, write_durably


@dataclass(frozen=True, slots=True, eq=False)
class ScannerGrid:
    """The grid of the source stack: shape (columns, rows, slices) and voxel -> LPS mm."""

    shape: tuple[int, int, int]
    voxel_to_lps: Matrix


@dataclass(frozen=True, slots=True, eq=False)
class PreparedRecord:
    """What `prepare` found (`prepared.json`).

    Attributes
    ----------
    series_uid, source_instances, grid, lps_to_voxel, quality
        None or empty where the head came already aligned.
    source_instances
        (SOP Class UID, SOP Instance UID) of every instance, in slice order.
    source_images
        Their slices with their geometry; None also in a file that an earlier version wrote.
    convert_s, align_s
        Time that the two steps took.
    notes
        What a person should know of how the series became a volume.
    cautions
        What the series and its images show that limits the finding.
    """

    series_uid: str | None
    source_instances: tuple[tuple[str, str], ...]
    grid: ScannerGrid | None
    lps_to_voxel: Matrix | None
    quality: AlignmentQuality | None
    convert_s: float
    align_s: float | None
    source_images: SourceImages | None = None
    notes: tuple[str, ...] = ()
    cautions: tuple[Caution, ...] = ()

    def write(self, folder: CaseFolder) -> None:
        """Write `prepared.json` durably."""
        data = asdict(self)
        if self.source_images is not None:  # hundreds of slices: rows of values, not of names
            data["source_images"]["slices"] = [astuple(one) for one in self.source_images.slices]
        _write_json(folder.prepared, data)

    @classmethod
    def read(cls, folder: CaseFolder) -> PreparedRecord:
        """Read it back.

        Raises
        ------
        FileNotFoundError
            The stage has not been done.
        """
        data = json.loads(folder.prepared.read_bytes())
        grid, matrix, quality = data["grid"], data["lps_to_voxel"], data["quality"]
        return cls(
            series_uid=data["series_uid"],
            source_instances=tuple((c, i) for c, i in data["source_instances"]),
            source_images=SourceImages.from_json(data.get("source_images")),
            grid=None if grid is None else ScannerGrid(tuple(grid["shape"]), np.array(grid["voxel_to_lps"])),
            lps_to_voxel=None if matrix is None else np.array(matrix),
            quality=None if quality is None else AlignmentQuality(**quality),
            convert_s=data["convert_s"],
            align_s=data["align_s"],
            notes=tuple(data.get("notes", ())),
            cautions=_cautions(data),
        )


@dataclass(frozen=True, slots=True)
class FindingRecord:
    """What `detect` found (`finding.json`), when, how long it took, and what limits the answer."""

    finding: Finding
    at: datetime
    detect_s: float
    cautions: tuple[Caution, ...] = ()

    def write(self, folder: CaseFolder) -> None:
        """Write `finding.json` durably."""
        write_durably(folder.finding, _FINDING.dump_json(self), mode=GROUP)

    @classmethod
    def read(cls, folder: CaseFolder) -> FindingRecord | None:
        """Read it back; None where the stage has not been done."""
        try:
            return _FINDING.validate_json(folder.finding.read_bytes())
        except FileNotFoundError:
            return None


_FINDING: Final = TypeAdapter(FindingRecord)


def result_of(
    prepared: PreparedRecord | None,
    found: FindingRecord | None,
    *,
    case_id: str,
    state: CaseState,
    series_uid: str | None,
    reason: Reason | None,
    detail: str,
    revision: int = 1,
    render_s: float | None = None,
    deliver_s: float | None = None,
    last_image_to_alert_s: float | None = None,
) -> Result:
    """The result of a case from what its stages have left; None for a stage that was not reached. Times in seconds."""
    return Result(
        case_id=case_id,
        state=state,
        series_uid=series_uid,
        revision=revision,
        reason=reason,
        detail=detail,
        notes=() if prepared is None else prepared.notes,
        cautions=cautions_of(prepared, found),
        finding=None if found is None else found.finding,
        lps_to_voxel=None if prepared is None else prepared.lps_to_voxel,
        quality=None if prepared is None else prepared.quality,
        timings=Timings(
            convert=None if prepared is None else prepared.convert_s,
            align=None if prepared is None else prepared.align_s,
            detect=None if found is None else found.detect_s,
            render=render_s,
            deliver=deliver_s,
            last_image_to_alert=last_image_to_alert_s,
        ),
    )


def cautions_of(prepared: PreparedRecord | None, found: FindingRecord | None) -> tuple[Caution, ...]:
    """The cautions of both stages, the gravest first."""
    return in_order([one for record in (prepared, found) if record is not None for one in record.cautions])


def _cautions(data: dict[str, Any]) -> tuple[Caution, ...]:
    return tuple(Caution(CautionCode(one["code"]), one["measured"]) for one in data.get("cautions", ()))


def _write_json(path: Path, data: dict[str, Any]) -> None:
    write_durably(path, json.dumps(data, default=_plain).encode(), mode=GROUP)


def _plain(value: Any) -> Any:
    convert: dict[type, Callable[[Any], Any]] = {np.ndarray: np.ndarray.tolist, datetime: datetime.isoformat}
    for kind, how in convert.items():
        if isinstance(value, kind):
            return how(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
