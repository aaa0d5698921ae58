"""The outline of the core map as a binary DICOM Segmentation (PS3.3 A.51), in the planes of the source images.

Each frame has the pixel grid of one source image and references it, so that a viewer shows it without resampling. Slices without
core have no frame. The network estimates the volume independently of the map: the volume of the segment is not that of the result.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from highdicom import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from pydicom.dataset import Dataset

from corewatch import RESEARCH_LABEL, __version__
from corewatch.findings import ModelIdentity
from corewatch.source_images import SourceImages
from outputs.dicom import codes
from outputs.dicom.encoding import EncodedInstance, Study, model_name
from outputs.dicom.object_kinds import ObjectKind
from outputs.dicom.references import derivation, referenced_series
from outputs.dicom.source_outline import OutlinedSlices

SEGMENT_NUMBER = 1
TRACKING_ID = "ischemic core"
SEGMENT_SHOWS: Final = "The segment shows where the estimate comes from, not how much: its volume is not that of the result."

_COLOUR = (79.0, -31.0, -26.0)
"""L*a*b* of the outline on our pages: light blue, distinct from grey and from orange for every kind of colour vision."""


def encode(study: Study, images: SourceImages, planes: OutlinedSlices, model: ModelIdentity) -> EncodedInstance:
    """Encode one Segmentation with a frame for each outlined source slice.

    Parameters
    ----------
    images
        The slices of the source; they have a Frame of Reference.
    planes
        The outlined ones of them, with their masks.
    """
    step = _step_mm(images)
    ds = Segmentation(
        source_images=[_anchor(study, images)],
        pixel_array=planes.masks,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment(study, model)],
        series_instance_uid=study.derived_uid("seg-series"),
        series_number=1,
        sop_instance_uid=study.derived_uid("seg"),
        instance_number=1,
        manufacturer=study.series.manufacturer,
        manufacturer_model_name=model_name(model),
        software_versions=__version__,
        device_serial_number=model.sha256[:16],
        content_label="ISCHEMIC_CORE",
        content_description=f"Place only, not volume. {RESEARCH_LABEL}",
        pixel_measures=PixelMeasuresSequence(pixel_spacing=images.spacing_mm, slice_thickness=step),
        plane_orientation=PlaneOrientationSequence("PATIENT", images.orientation),
        plane_positions=[PlanePositionSequence("PATIENT", images.slices[n].position_lps) for n in planes.numbers],
        omit_empty_frames=False,
    )
    set_dimension_organization_uid(ds, study.derived_uid("seg-dimensions"))
    _reference_sources(ds, study, images, planes)
    ds.ContentQualification = "RESEARCH"
    ds.BodyPartExamined = "HEAD"
    ds["PixelData"].VR = "OB"  # PS3.5 A.2; pydicom decides that itself only where no element is kept as its bytes
    return EncodedInstance(ObjectKind.SEG, 1, str(ds.SOPClassUID), str(ds.SOPInstanceUID), study.finish(ds, ObjectKind.SEG))


def set_dimension_organization_uid(ds: Dataset, uid: str) -> None:
    """Set Dimension Organization UID (0020,9164), so that it is the same whenever the object is encoded."""
    for item in (*ds.DimensionOrganizationSequence, *ds.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid


def _segment(study: Study, model: ModelIdentity) -> SegmentDescription:
    return SegmentDescription(
        segment_number=SEGMENT_NUMBER,
        segment_label="Core: place only, not its volume",
        segmented_property_category=codes.ABNORMAL,
        segmented_property_type=codes.INFARCT,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=codes.algorithm(model),
        tracking_uid=study.derived_uid("core"),
        tracking_id=TRACKING_ID,
        anatomic_regions=[codes.BRAIN],
        display_color=CIELabColor(*_COLOUR),
    )


def _anchor(study: Study, images: SourceImages) -> Dataset:
    ds = study.anchor()
    ds.FrameOfReferenceUID = images.frame_of_reference_uid
    ds.Rows, ds.Columns = images.rows, images.columns
    ds.PixelSpacing, ds.SliceThickness = list(images.spacing_mm), _step_mm(images)
    ds.ImageOrientationPatient = list(images.orientation)
    ds.ImagePositionPatient = list(images.slices[0].position_lps)
    return ds


def _step_mm(images: SourceImages) -> float:
    """Median distance in mm of neighbouring slices along their normal: frames of this thickness have no gaps between them."""
    normal = images.pixel_to_lps(0)[:3, 2]
    along = np.array([one.position_lps for one in images.slices]) @ normal
    return round(float(np.median(np.diff(along))), 6)


def _reference_sources(ds: Dataset, study: Study, images: SourceImages, planes: OutlinedSlices) -> None:
    """Reference the source frame of each frame (Derivation Image Sequence), and the series with all referenced instances."""
    numbers = np.array(planes.numbers)
    positions = np.array([images.slices[n].position_lps for n in numbers])
    named: dict[tuple[str, str], None] = {}
    for item in ds.PerFrameFunctionalGroupsSequence:
        place = np.array(item.PlanePositionSequence[0].ImagePositionPatient, np.float64)
        nearest = int(np.linalg.norm(positions - place, axis=1).argmin())
        source = images.slices[int(numbers[nearest])]
        item.DerivationImageSequence = [derivation(source, codes.SEGMENTATION)]
        named[source.sop_class_uid, source.sop_instance_uid] = None
    ds.ReferencedSeriesSequence = [referenced_series(study.series_uid, named)]
