"""All DICOM objects of a case, encoded and written into its `dicom` folder with their manifest."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from config.delivery import ResultSeries
from corewatch.findings import Finding
from foundation.durable import sync_folder, write_durably
from outputs.case import ReportedCase
from outputs.dicom import key_objects, parametric_map, secondary_capture, segmentation, structured_report
from outputs.dicom.encoding import EncodedInstance, Study
from outputs.dicom.object_kinds import ObjectKind
from outputs.dicom.object_manifest import MANIFEST, ObjectManifest
from outputs.dicom.secondary_capture import Page
from outputs.dicom.source_outline import OutlinedSlices, outline
from outputs.pages.axial_slices import map_is_shown

log = logging.getLogger(__name__)

NOT_ANALYSED = "the case has no finding"
NOTHING_TO_OUTLINE = "there is nothing to outline: no alert and no clear side, or no part of the map above its threshold"
GEOMETRY_UNKNOWN = "the geometry of the source's slices is not known"
NO_FRAME_OF_REFERENCE = "the source series has no Frame of Reference"


def write_objects(
    case: ReportedCase, pages: Iterable[Page], core_map: NDArray[np.uint8] | None, series: ResultSeries | None = None
) -> ObjectManifest:
    """Encode every object that can be made for the case into its `dicom` folder and remove others; the manifest is written last.

    Parameters
    ----------
    pages
        The pages, the summary first.
    core_map
        uint8, shape (146, 182, 133), L-A-S, 0-100; None for a case without a finding.

    Raises
    ------
    ValueError
        If the case has no DICOM source: there is no study to join.
    OperatorNeeded
        If the source header cannot be read.
    """
    study = Study.of(case, series)
    folder = case.folder.dicom
    folder.mkdir(parents=True, exist_ok=True)
    left_out: dict[ObjectKind, str] = {}
    made: dict[ObjectKind, list[str]] = {}
    for instance in _encoded(study, pages, core_map, left_out):
        name = f"{instance.kind}-{instance.instance_number:03d}.dcm"
        write_durably(folder / name, instance.data, sync_name=False)
        made.setdefault(instance.kind, []).append(name)
    wanted = {name for names in made.values() for name in names}
    for stale in [path for path in folder.glob("*.dcm") if path.name not in wanted]:
        stale.unlink()
    manifest = ObjectManifest(made={kind: tuple(names) for kind, names in made.items()}, left_out=left_out)
    write_durably(folder / MANIFEST, json.dumps(manifest.to_json(), indent=1).encode(), sync_name=False)
    sync_folder(folder)
    for kind, why in left_out.items():
        log.info("object left out: %s: %s", kind, why)
    return manifest


def _encoded(
    study: Study, pages: Iterable[Page], core_map: NDArray[np.uint8] | None, left_out: dict[ObjectKind, str]
) -> Iterator[EncodedInstance]:
    """The objects one by one; the reason why a kind is missing is put into `left_out`."""
    summary: EncodedInstance | None = None
    for page in secondary_capture.encode(study, pages):
        summary = summary or page
        yield page
    finding = study.case.result.finding
    if finding is None or core_map is None:
        left_out.update(dict.fromkeys((ObjectKind.SEG, ObjectKind.PMAP, ObjectKind.SR, ObjectKind.KOS), NOT_ANALYSED))
        return
    segment, planes = None, _outlined(study, finding, core_map, left_out)
    images, placement = study.case.source_images, study.case.result.lps_to_voxel
    if planes is not None and images is not None and placement is not None:
        segment = segmentation.encode(study, images, planes, finding.model)
        yield segment
        yield parametric_map.encode(study, images, core_map, placement, finding.model)
    key_slice = None if planes is None or images is None else images.slices[planes.largest]
    yield structured_report.encode(study, finding, segment, key_slice)
    if summary is not None:
        yield key_objects.encode(study, summary)


def _outlined(
    study: Study, finding: Finding, core_map: NDArray[np.uint8], left_out: dict[ObjectKind, str]
) -> OutlinedSlices | None:
    """The outline on the source's slices. A map without a core is scaled noise, which is neither outlined nor sent."""
    images, placement = study.case.source_images, study.case.result.lps_to_voxel
    planes = None
    if images is None or placement is None or len(images.slices) < 2:
        why = GEOMETRY_UNKNOWN
    elif not images.frame_of_reference_uid:
        why = NO_FRAME_OF_REFERENCE
    else:
        why = NOTHING_TO_OUTLINE
        planes = outline(images, core_map, placement) if map_is_shown(finding) else None
    if planes is None:
        left_out.update({ObjectKind.SEG: why, ObjectKind.PMAP: why})
    return planes
