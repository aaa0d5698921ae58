"""The core map as a DICOM Parametric Map (PS3.3 A.75), on the network's grid in the source's frame of reference.

Nothing is resampled: a reader gets the values of the network, and the grid's place in the patient as positions and orientation (LPS
mm). Stored values are percent of the map's maximum.
"""

from __future__ import annotations

import numpy as np
from highdicom import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence, VOILUTTransformation
from highdicom.pm import ParametricMap, RealWorldValueMapping
from numpy.typing import NDArray

from corewatch import RESEARCH_LABEL, __version__
from corewatch.findings import ModelIdentity
from corewatch.geometry import Matrix, apply, inverse
from corewatch.source_images import SourceImages
from outputs.dicom import codes
from outputs.dicom.encoding import EncodedInstance, Study, model_name
from outputs.dicom.object_kinds import ObjectKind
from outputs.dicom.references import referenced_series, source_images
from outputs.dicom.segmentation import set_dimension_organization_uid


def encode(
    study: Study, images: SourceImages, core_map: NDArray[np.uint8], lps_to_voxel: Matrix, model: ModelIdentity
) -> EncodedInstance:
    """One Parametric Map with a frame for each axial slice of the network's grid from the first to the last that is not empty.

    Parameters
    ----------
    core_map
        uint8, shape (146, 182, 133), network voxels (L-A-S), 0-100, not all 0.
    lps_to_voxel
        LPS mm of the source -> network voxel, a rotation and a shift.
    """
    filled = np.flatnonzero(core_map.any(axis=(0, 1)))
    levels = range(int(filled[0]), int(filled[-1]) + 1)
    # rows of the picture run to the patient's left (+i), columns to posterior (-j), frames upwards (+k)
    frames = core_map[:, ::-1, levels.start : levels.stop].transpose(2, 1, 0).astype(np.uint16)
    voxel_to_lps = inverse(lps_to_voxel)
    corner = core_map.shape[1] - 1
    places = apply(voxel_to_lps, np.array([[0, corner, k] for k in levels], np.float64))
    orientation = np.concatenate([voxel_to_lps[:3, 0], -voxel_to_lps[:3, 1]])

    anchor = study.anchor()
    anchor.FrameOfReferenceUID = images.frame_of_reference_uid
    anchor.Rows, anchor.Columns = frames.shape[1:]
    anchor.PixelSpacing, anchor.SliceThickness = [1.0, 1.0], 1.0
    anchor.ImageOrientationPatient, anchor.ImagePositionPatient = orientation.tolist(), places[0].tolist()
    ds = ParametricMap(
        source_images=[anchor],
        pixel_array=frames,
        series_instance_uid=study.derived_uid("pmap-series"),
        series_number=1,
        sop_instance_uid=study.derived_uid("pmap"),
        instance_number=1,
        manufacturer=study.series.manufacturer,
        manufacturer_model_name=model_name(model),
        software_versions=__version__,
        device_serial_number=model.sha256[:16],
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[_percent()],
        voi_lut_transformations=[VOILUTTransformation(window_center=50, window_width=100)],
        content_label="CORE_MAP",
        content_description=f"Evidence of ischemic core. {RESEARCH_LABEL}",
        pixel_measures=PixelMeasuresSequence(pixel_spacing=(1.0, 1.0), slice_thickness=1.0),
        plane_orientation=PlaneOrientationSequence("PATIENT", orientation.tolist()),
        plane_positions=[PlanePositionSequence("PATIENT", place.tolist()) for place in places],
    )
    set_dimension_organization_uid(ds, study.derived_uid("pmap-dimensions"))
    for item in ds.PerFrameFunctionalGroupsSequence:
        item.DerivationImageSequence = []
    references = source_images(study.case.source_instances)
    if references is not None:
        ds[references.tag] = references
        ds.ReferencedSeriesSequence = [referenced_series(study.series_uid, study.case.source_instances)]
    ds.BodyPartExamined = "HEAD"
    ds["PixelData"].VR = "OW"  # PS3.5 A.2; pydicom decides that itself only where no element is kept as its bytes
    ds.CodingSchemeIdentificationSequence = codes.coding_schemes()
    return EncodedInstance(ObjectKind.PMAP, 1, str(ds.SOPClassUID), str(ds.SOPInstanceUID), study.finish(ds, ObjectKind.PMAP))


def _percent() -> RealWorldValueMapping:
    return RealWorldValueMapping(
        lut_label="core map",
        lut_explanation="Percent of the map's maximum",
        unit=codes.PERCENT,
        value_range=(0, 100),
        slope=1,
        intercept=0,
        quantity_definition=codes.EVIDENCE,
    )
