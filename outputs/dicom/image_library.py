"""Image Library (TID 1600) of the structured report: the source images of a result, as IHE AI Results requires.

The group holds what all images have in common (TID 1602 and 1604); each image is an entry (TID 1601).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from highdicom.sr import (
    CodeContentItem,
    CodedConcept,
    ContentItem,
    DateContentItem,
    NumContentItem,
    RelationshipTypeValues,
    TimeContentItem,
    UIDRefContentItem,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dictionary
from pydicom.sr.coding import Code
from pydicom.valuerep import DA, TM

from corewatch.source_images import SourceImages
from outputs.dicom import codes
from outputs.dicom.encoding import Study
from outputs.dicom.references import reference
from outputs.source_header import plain_text

_ACQUISITION: Final = RelationshipTypeValues.HAS_ACQ_CONTEXT
_PIXELS: Final = CodedConcept("{pixels}", "UCUM", "Pixels")
_COSINE: Final = CodedConcept("{-1:1}", "UCUM", "{-1:1}")
_HEAD: Final = CodedConcept("69536005", "SCT", "Head")
_ORIENTATION: Final = (
    dictionary.DCM.ImageOrientationPatientRowX,
    dictionary.DCM.ImageOrientationPatientRowY,
    dictionary.DCM.ImageOrientationPatientRowZ,
    dictionary.DCM.ImageOrientationPatientColumnX,
    dictionary.DCM.ImageOrientationPatientColumnY,
    dictionary.DCM.ImageOrientationPatientColumnZ,
)


def library(study: Study) -> Dataset | None:
    """The container of TID 1600; None where the source images are not known.

    The group describes what holds for all images; positions are in the images only.
    """
    instances = study.case.source_instances
    if not instances:
        return None
    entries = [*_common(study, study.case.source_images), *(_entry(*one) for one in instances)]
    return _container(dictionary.DCM.ImageLibrary, [_container(dictionary.DCM.ImageLibraryGroup, entries)])


def _container(name: Code, items: Sequence[Dataset]) -> Dataset:
    """A container as a plain data set: the class of highdicom requires a concept for each item."""
    container = Dataset()
    container.RelationshipType, container.ValueType, container.ContinuityOfContent = "CONTAINS", "CONTAINER", "SEPARATE"
    container.ConceptNameCodeSequence = [CodedConcept.from_code(name)]
    container.ContentSequence = list(items)
    return container


def _entry(sop_class: str, sop_instance: str) -> Dataset:
    """TID 1601 names no concept for an entry."""
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", "IMAGE"
    item.ReferencedSOPSequence = [reference(sop_class, sop_instance)]
    return item


def _common(study: Study, images: SourceImages | None) -> list[ContentItem]:
    found: list[ContentItem] = [
        CodeContentItem(dictionary.DCM.Modality, dictionary.DCM.ComputedTomography, _ACQUISITION),
        CodeContentItem(dictionary.DCM.TargetRegion, _HEAD, _ACQUISITION),
    ]
    date, time = _date(study.source), _time(study.source)
    if date is not None:
        found.append(DateContentItem(dictionary.DCM.StudyDate, date, _ACQUISITION))
    if time is not None:
        found.append(TimeContentItem(dictionary.DCM.StudyTime, time, _ACQUISITION))
    if images is None:
        return found
    if images.frame_of_reference_uid:
        found.append(UIDRefContentItem(dictionary.DCM.FrameOfReferenceUID, images.frame_of_reference_uid, _ACQUISITION))
    numbers = [
        (dictionary.DCM.PixelDataRows, images.rows, _PIXELS),
        (dictionary.DCM.PixelDataColumns, images.columns, _PIXELS),
        (dictionary.DCM.HorizontalPixelSpacing, images.spacing_mm[1], codes.MILLIMETRE),
        (dictionary.DCM.VerticalPixelSpacing, images.spacing_mm[0], codes.MILLIMETRE),
        *((name, cosine, _COSINE) for name, cosine in zip(_ORIENTATION, images.orientation, strict=True)),
    ]
    found += [
        NumContentItem(name, float(np.round(value, 6)), unit, relationship_type=_ACQUISITION) for name, value, unit in numbers
    ]
    return found


def _date(source: Dataset) -> DA | None:
    """Study Date (0008,0020); None where the source has none, or an invalid one."""
    try:
        return DA(plain_text(source, "StudyDate"))
    except ValueError:
        return None


def _time(source: Dataset) -> TM | None:
    """Study Time (0008,0030); None where the source has none, or an invalid one."""
    try:
        return TM(plain_text(source, "StudyTime"))
    except ValueError:
        return None
