"""Key Object Selection (PS3.3 A.35.4, TID 2010) that references the summary page, so that a viewer opens it first."""

from __future__ import annotations

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from pydicom.sr.codedict import codes as dictionary

from corewatch import RESEARCH_LABEL
from outputs import wording
from outputs.dicom.encoding import EncodedInstance, Study
from outputs.dicom.object_kinds import ObjectKind, as_ascii
from outputs.dicom.references import evidence
from outputs.dicom.structured_report import observer


def encode(study: Study, page: EncodedInstance) -> EncodedInstance:
    """One document with the title "Of Interest"; `page` is the summary page's Secondary Capture."""
    target = study.anchor()
    target.SOPClassUID, target.SOPInstanceUID = page.sop_class_uid, page.sop_instance_uid
    target.SeriesInstanceUID = study.derived_uid("sc-series")
    content = KeyObjectSelection(
        document_title=dictionary.DCM.OfInterest,
        referenced_objects=[target],
        observer_device_context=observer(study),
        description=as_ascii(f"{wording.headline(study.case)}. {RESEARCH_LABEL}."),
    )
    ds = KeyObjectSelectionDocument(
        evidence=[target],
        content=content,
        series_instance_uid=study.derived_uid("kos-series"),
        series_number=1,
        sop_instance_uid=study.derived_uid("kos"),
        instance_number=1,
        manufacturer=study.series.manufacturer,
    )
    pages = ((page.sop_class_uid, page.sop_instance_uid),)
    ds.CurrentRequestedProcedureEvidenceSequence = [evidence(study.uid, [(study.derived_uid("sc-series"), pages)])]
    return EncodedInstance(ObjectKind.KOS, 1, str(ds.SOPClassUID), str(ds.SOPInstanceUID), study.finish(ds, ObjectKind.KOS))
