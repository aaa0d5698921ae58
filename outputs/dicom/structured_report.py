"""Structured report of the finding: a Comprehensive 3D SR (PS3.3 A.35.13) by TID 1500, with numbers and codes that a PACS can read.

The Image Library (TID 1600) names the source images. One measurement group (TID 1501) holds the estimate: volume with its 10th and
90th percentile, side, alert, quality of the alignment, and the model. A second group (TID 1411) references the segment, where there
is one. It has the same tracking UID and no volume: the network estimates the volume independently of the outline, and a reader must
not mistake one for the other. IHE AI Results (AIR) requires these templates of an Evidence Creator.
"""

from __future__ import annotations

from typing import Final

from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    Comprehensive3DSR,
    ContainerContentItem,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    ReferencedSegment,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dictionary

from corewatch import __version__
from corewatch.findings import Finding, Side
from corewatch.identity import derived_uid
from corewatch.source_images import SourceSlice
from outputs.case import ReportedCase
from outputs.dicom import codes, image_library
from outputs.dicom.encoding import EncodedInstance, Study
from outputs.dicom.object_kinds import ObjectKind, as_ascii
from outputs.dicom.references import evidence, frames_of
from outputs.dicom.segmentation import SEGMENT_NUMBER, SEGMENT_SHOWS, TRACKING_ID

PERCENTILES_SHOW: Final = "The percentiles of the volume are its placement range; they do not contain the model's own error."
QUALITATIVE_EVALUATIONS: Final = CodedConcept("C0034375", "UMLS", "Qualitative Evaluations")

_DIGITS = 3  # of a volume in mL: a voxel has 0.001


def encode(
    study: Study, finding: Finding, segmentation: EncodedInstance | None = None, key_slice: SourceSlice | None = None
) -> EncodedInstance:
    """Encode the report.

    Parameters
    ----------
    segmentation
        The Segmentation of the same finding; None where nothing is outlined.
    key_slice
        Source slice with the largest outlined area.
    """
    groups: list[MeasurementsAndQualitativeEvaluations | VolumetricROIMeasurementsAndQualitativeEvaluations]
    groups = [_estimate(study, finding, key_slice)]
    if segmentation is not None:
        groups.append(_segment(study, finding, segmentation))
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer(study)),
        procedure_reported=[codes.CT_OF_HEAD, codes.ANGIOGRAPHY],
        imaging_measurements=groups,
    )
    ds = Comprehensive3DSR(
        evidence=_evidence(study, segmentation, key_slice),
        content=content[0],
        series_instance_uid=study.derived_uid("sr-series"),
        series_number=1,
        sop_instance_uid=study.derived_uid("sr"),
        instance_number=1,
        manufacturer=study.series.manufacturer,
        is_complete=True,
        is_final=False,
        previous_versions=_superseded(study),
    )
    series = [(study.series_uid, study.case.source_instances)] if study.case.source_instances else []
    if segmentation is not None:
        series.append((study.derived_uid("seg-series"), ((segmentation.sop_class_uid, segmentation.sop_instance_uid),)))
    ds.CurrentRequestedProcedureEvidenceSequence = [evidence(study.uid, series)] if series else []
    images = image_library.library(study)
    if images is not None:  # TID 1500 has it before the measurements
        *before, measurements = ds.ContentSequence
        ds.ContentSequence = [*before, images, measurements]
    _add_remarks(ds, study.case, segmentation is not None)
    ds.CodingSchemeIdentificationSequence = codes.coding_schemes()
    return EncodedInstance(ObjectKind.SR, 1, str(ds.SOPClassUID), str(ds.SOPInstanceUID), study.finish(ds, ObjectKind.SR))


def observer(study: Study) -> ObserverContext:
    """Observer context (TID 1002): this program as a device (TID 1004)."""
    return ObserverContext(
        observer_type=dictionary.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=derived_uid("corewatch", study.model, "device"),
            name="corewatch",
            manufacturer_name=as_ascii(study.series.manufacturer),
            model_name="corewatch" if study.model is None else as_ascii(study.model.name),
            serial_number=__version__ if study.model is None else study.model.sha256[:16],
        ),
    )


def _estimate(study: Study, finding: Finding, key_slice: SourceSlice | None) -> MeasurementsAndQualitativeEvaluations:
    quality = study.case.result.quality
    measurements = [_volume(finding.core_ml)]
    if finding.core_ml_interval is not None:
        low, high = finding.core_ml_interval
        measurements += [_volume(low, codes.TENTH_PERCENTILE), _volume(high, codes.NINETIETH_PERCENTILE)]
    measurements.append(Measurement(name=codes.ALERT_THRESHOLD, value=finding.alert_ml, unit=codes.MILLILITRE))
    if finding.model_rmse_ml is not None:
        measurements.append(Measurement(name=codes.MODEL_ERROR, value=finding.model_rmse_ml, unit=codes.MILLILITRE))
    if quality is not None:
        measurements += [
            Measurement(name=codes.ALIGNMENT_SCORE, value=round(quality.score, 4), unit=codes.RATIO),
            Measurement(name=codes.MIDLINE_OFFSET, value=round(quality.midline_mm, 3), unit=codes.MILLIMETRE),
            Measurement(name=codes.MIDLINE_ANGLE, value=round(quality.midline_degrees, 3), unit=codes.DEGREE),
        ]
    cautions = dict.fromkeys(one.code for one in study.case.result.cautions)
    answers = [
        *((codes.CAUTION, codes.CAUTIONS[code]) for code in cautions),
        (codes.LATERALITY, codes.SIDES[finding.side]),
        (codes.ALERT, codes.YES if finding.alert else codes.NO),
        (codes.INTENDED_USE, codes.RESEARCH_USE),
    ]
    if finding.core_ml_interval is not None:
        answers.insert(len(cautions) + 2, (codes.UNSTABLE, codes.YES if finding.unstable else codes.NO))
    if finding.model.demonstration:
        answers.append((codes.MODEL_TRAINING, codes.DEMONSTRATION))
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(study),
        finding_type=codes.INFARCT,
        finding_category=codes.ABNORMAL,
        method=codes.ESTIMATE,
        algorithm_id=_algorithm(finding),
        finding_sites=[_site(finding)],
        measurements=measurements,
        qualitative_evaluations=[QualitativeEvaluation(name=name, value=value) for name, value in answers],
        source_images=None
        if key_slice is None
        else [
            SourceImageForMeasurementGroup(
                referenced_sop_class_uid=key_slice.sop_class_uid,
                referenced_sop_instance_uid=key_slice.sop_instance_uid,
                referenced_frame_numbers=frames_of(key_slice),
            )
        ],
    )


def _segment(study: Study, finding: Finding, segmentation: EncodedInstance) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(study),
        referenced_segment=ReferencedSegment(
            sop_class_uid=segmentation.sop_class_uid,
            sop_instance_uid=segmentation.sop_instance_uid,
            segment_number=SEGMENT_NUMBER,
            source_series=SourceSeriesForSegmentation(study.series_uid),
        ),
        finding_type=codes.INFARCT,
        finding_category=codes.ABNORMAL,
        algorithm_id=_algorithm(finding),
        finding_sites=[_site(finding)],
        qualitative_evaluations=[QualitativeEvaluation(name=codes.INTENDED_USE, value=codes.RESEARCH_USE)],
    )


def _add_remarks(ds: Dataset, case: ReportedCase, segmented: bool) -> None:
    """Add Qualitative Evaluations (TID 1500) in words: what was measured for each caution, and how the figures are to be read."""
    remarks = [(codes.CAUTION, f"{one.title}. {one.sentence} {one.remedy}") for one in case.result.cautions]
    finding = case.result.finding
    if finding is not None and finding.core_ml_interval is not None:
        remarks.append((codes.REMARK, PERCENTILES_SHOW))
    if segmented:
        remarks.append((codes.REMARK, SEGMENT_SHOWS))
    if not remarks:
        return
    evaluations = ContainerContentItem(name=QUALITATIVE_EVALUATIONS, relationship_type=RelationshipTypeValues.CONTAINS)
    evaluations.ContentSequence = [
        TextContentItem(name=name, value=as_ascii(text), relationship_type=RelationshipTypeValues.CONTAINS)
        for name, text in remarks
    ]
    ds.ContentSequence = [*ds.ContentSequence, evaluations]


def _volume(value: float, derivation: CodedConcept | None = None) -> Measurement:
    return Measurement(name=codes.VOLUME, value=round(value, _DIGITS), unit=codes.MILLILITRE, derivation=derivation)


def _tracking(study: Study) -> TrackingIdentifier:
    return TrackingIdentifier(uid=study.derived_uid("core"), identifier=TRACKING_ID)


def _site(finding: Finding) -> FindingSite:
    return FindingSite(codes.BRAIN, laterality=None if finding.side is Side.NONE else codes.SIDES[finding.side])


def _algorithm(finding: Finding) -> AlgorithmIdentification:
    model = finding.model
    parameters = [f"sha256={model.sha256}"]
    if finding.perturbations:
        parameters.append(f"placements={'; '.join(finding.perturbations)}")
    return AlgorithmIdentification(
        name=as_ascii(model.name), version=as_ascii(model.version), parameters=parameters, manufacturer="corewatch"
    )


def _evidence(study: Study, segmentation: EncodedInstance | None, key_slice: SourceSlice | None) -> list[Dataset]:
    """Minimal data sets for the instances that the content references; the full list of source images replaces them later."""
    named = [] if key_slice is None else [(key_slice.sop_class_uid, key_slice.sop_instance_uid, study.series_uid)]
    if segmentation is not None:
        named.append((segmentation.sop_class_uid, segmentation.sop_instance_uid, study.derived_uid("seg-series")))
    datasets = []
    for sop_class, sop_instance, series in named:
        ds = study.anchor()
        ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = sop_class, sop_instance, series
        datasets.append(ds)
    return datasets or [study.anchor()]


def _superseded(study: Study) -> list[Dataset] | None:
    """The report of the revision that this one replaces (Predecessor Documents Sequence, PS3.3 C.17.2)."""
    path = study.case.superseded_report
    if path is None:
        return None
    return [dcmread(path, specific_tags=["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])]
