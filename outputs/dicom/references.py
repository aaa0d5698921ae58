"""References to other instances: source images, derivation, referenced series, and the evidence of an SR document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.tag import Tag
from pydicom.uid import CTImageStorage

from corewatch.source_images import SourceSlice


def source_images(instances: Sequence[tuple[str, str]]) -> RawDataElement | None:
    """Source Image Sequence (0008,2112), PS3.3 C.7.6.1, encoded; None without instances.

    A CTA has hundreds of source images, and every page of the series references them all: encoding the sequence once instead of
    once per object saves most of the encoding time.
    """
    if not instances:
        return None
    holder = Dataset()
    holder.SourceImageSequence = [_source_item(sop_class, sop_instance) for sop_class, sop_instance in instances]
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, holder)
    items = bytes(buffer.getvalue())[12:]  # after tag (4), VR (2), reserved (2) and length (4), PS3.5 7.1.2
    return RawDataElement(Tag("SourceImageSequence"), "SQ", len(items), items, 0, False, True)


def frames_of(source: SourceSlice) -> list[int] | None:
    """Referenced Frame Number (0008,1160) of the slice; None for a single-frame instance."""
    return None if source.sop_class_uid == CTImageStorage else [source.frame]


def derivation(source: SourceSlice, operation: Dataset) -> Dataset:
    """Item of a frame's Derivation Image Sequence (0008,9124), PS3.3 C.7.6.16.2.6: the source frame in its plane."""
    item = _source_item(source.sop_class_uid, source.sop_instance_uid)
    if (frames := frames_of(source)) is not None:
        item.ReferencedFrameNumber = frames[0]
    item.SpatialLocationsPreserved = "YES"
    whole = Dataset()
    whole.SourceImageSequence = [item]
    whole.DerivationCodeSequence = [operation]
    return whole


def referenced_series(series_uid: str, instances: Iterable[tuple[str, str]]) -> Dataset:
    """Item of a Referenced Series Sequence (0008,1115), PS3.3 C.12.2: instances of one series of the same study."""
    item = Dataset()
    item.SeriesInstanceUID = series_uid
    item.ReferencedInstanceSequence = [reference(*one) for one in instances]
    return item


def reference(sop_class: str, sop_instance: str) -> Dataset:
    """Reference to one instance (PS3.3 table 10-11)."""
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class
    item.ReferencedSOPInstanceUID = sop_instance
    return item


def evidence(study_uid: str, series: Iterable[tuple[str, Iterable[tuple[str, str]]]]) -> Dataset:
    """Item of an SR's evidence (PS3.3 table C.17-3a): (series UID, instances) of one study, each series of a kind."""
    item = Dataset()
    item.StudyInstanceUID = study_uid
    item.ReferencedSeriesSequence = []
    for series_uid, instances in series:
        one = Dataset()
        one.SeriesInstanceUID = series_uid
        one.ReferencedSOPSequence = [reference(*instance) for instance in instances]
        item.ReferencedSeriesSequence.append(one)
    return item


def _source_item(sop_class: str, sop_instance: str) -> Dataset:
    purpose = Dataset()  # CID 7202 Source Image Purposes of Reference
    purpose.CodeValue = "121322"
    purpose.CodingSchemeDesignator = "DCM"
    purpose.CodeMeaning = "Source image for image processing operation"
    item = reference(sop_class, sop_instance)
    item.PurposeOfReferenceCodeSequence = [purpose]
    return item
