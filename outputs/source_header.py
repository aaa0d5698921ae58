"""Header of the source series: reading it, and copying patient and study into the DICOM results byte for byte."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Final

from pydicom import dcmread
from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.tag import Tag

from corewatch.errors import OperatorNeeded

PATIENT: Final = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "TypeOfPatientID",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientSex",
    "OtherPatientIDs",
    "OtherPatientIDsSequence",
    "OtherPatientNames",
    "EthnicGroup",
    "PatientComments",
    "QualityControlSubject",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
)
"""Patient Module, PS3.3 C.7.1.1."""

STUDY: Final = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "StudyDescription",
    "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy",
    "RequestingService",
    "ProcedureCodeSequence",
    "ReferencedStudySequence",
)
"""General Study Module, PS3.3 C.7.2.1."""

PATIENT_STUDY: Final = (
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "AdmittingDiagnosesDescription",
    "AdmittingDiagnosesCodeSequence",
    "AdmissionID",
    "IssuerOfAdmissionIDSequence",
)
"""Patient Study Module, PS3.3 C.7.2.2."""

REQUIRED_EVEN_EMPTY: Final = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
"""Type 2 of the modules above: present with an empty value where the source has none."""

_LOSSY: Final = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")

_TEXT_VRS: Final = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"})
"""Value representations whose bytes are the same in every native transfer syntax."""


def read_header(path: Path) -> Dataset:
    """Read a header without pixel data.

    Raises
    ------
    OperatorNeeded
        If the file is missing, not DICOM, or of no study: the case's folder is damaged.
    """
    try:
        header = dcmread(path, stop_before_pixels=True, force=True)
    except (OSError, InvalidDicomError, ValueError, EOFError) as error:
        raise OperatorNeeded(
            f"the source header of the case cannot be read: {type(error).__name__}", "analyse the series again"
        ) from None
    if not header.get("StudyInstanceUID"):
        raise OperatorNeeded("the source header of the case has no Study Instance UID", "analyse the series again")
    return header


def copy_source(source: Dataset, target: Dataset, *, image: bool = True) -> None:
    """Copy the patient's and the study's attributes of `source` into `target`, which joins that study.

    Text is copied as bytes together with Specific Character Set (0008,0005), never decoded and encoded again: a name that does not
    follow its declared character set still reaches the PACS as the modality wrote it, so that the PACS finds the same patient. Call
    `keep_bytes` before writing. An `image` also inherits that its source was compressed with loss.
    """
    for keyword in ("SpecificCharacterSet", "TimezoneOffsetFromUTC", *PATIENT, *STUDY, *PATIENT_STUDY):
        copy_element(source, target, keyword)
    for keyword in REQUIRED_EVEN_EMPTY:
        if keyword not in target:
            setattr(target, keyword, None)
    if image and source.get("LossyImageCompression") == "01":  # also in images derived from it (PS3.3 C.7.6.1.1.5)
        for keyword in _LOSSY:
            copy_element(source, target, keyword)


def keep_bytes(target: Dataset) -> None:
    """Make pydicom write the copied elements of `target` as the bytes that were read, in Explicit VR Little Endian.

    Call it when all elements are set: pydicom writes raw elements unchanged only where the data set declares the encoding and the
    character set that they were read with.
    """
    declared = target.get("SpecificCharacterSet")
    target.set_original_encoding(False, True, convert_encodings(declared) if declared else default_encoding)


def copy_element(source: Dataset, target: Dataset, keyword: str) -> None:
    """Copy one element if `source` has it: text as its bytes, anything else as its value."""
    number = tag_for_keyword(keyword)
    if number is None or number not in source:
        return
    tag = Tag(number)
    raw = source.get_item(tag)
    if isinstance(raw, RawDataElement):
        vr = dictionary_VR(tag) if raw.VR in (None, "UN") else raw.VR
        if vr in _TEXT_VRS:
            value = (raw.value or b"").rstrip(b"\0")  # NUL pads UI alone (PS3.5 6.2), but some modalities pad text with it
            if len(value) % 2:
                value += b"\0" if vr == "UI" else b" "
            target[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
            return
    element = deepcopy(source[tag])
    if element.VR == "SQ":
        for inner in (inner for item in element.value for inner in item.iterall()):
            if isinstance(inner.value, str):
                inner.value = inner.value.rstrip("\0")
    target[tag] = element


def plain_text(source: Dataset, keyword: str) -> str:
    """An ASCII element as text, empty where `source` has none; the element itself is left as it was read."""
    number = tag_for_keyword(keyword)
    if number is None or number not in source:
        return ""
    value = source.get_item(Tag(number)).value
    return (value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")).strip(" \0")


def named_fields(source: Dataset, keywords: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """(keyword, value as text) of the named attributes that `source` has and that are not empty, in the given order."""
    pairs = ((keyword, source.get(keyword)) for keyword in keywords)
    return tuple((keyword, str(value)) for keyword, value in pairs if value not in (None, ""))
