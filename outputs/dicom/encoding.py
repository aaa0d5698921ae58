"""Common parts of all our DICOM objects: patient and study of the source, series, equipment, times, and the encoding (PS3.10).

UIDs, dates and bytes depend on the case only: encoding a case twice gives the same files, and a PACS keeps one of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta, timezone
from functools import cached_property
from io import BytesIO
from typing import Final

from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from config.delivery import ResultSeries
from corewatch import __version__
from corewatch.findings import ModelIdentity
from corewatch.identity import derived_uid
from outputs import wording
from outputs.case import ReportedCase
from outputs.dicom.object_kinds import ObjectKind, as_ascii, series_description, series_number
from outputs.source_header import copy_source, keep_bytes, read_header

IMPLEMENTATION_UID: Final = UID(derived_uid("corewatch", None, "implementation-class"))
"""Implementation Class UID (0002,0012)."""


@dataclass(frozen=True)
class Study:
    """A case with its source study, which its DICOM objects join; read once for all objects.

    Attributes
    ----------
    case
        A case with a DICOM source.
    source
        Header of one of its source instances.
    series
        Number, description and manufacturer of the series of its objects.
    """

    case: ReportedCase
    source: Dataset
    series: ResultSeries

    @classmethod
    def of(cls, case: ReportedCase, series: ResultSeries | None = None) -> Study:
        """Read the source's header.

        Raises
        ------
        ValueError
            If the case has no DICOM source: there is no study to join.
        OperatorNeeded
            If the source header cannot be read.
        """
        if case.source_header is None:
            raise ValueError("a case without a DICOM source has no study that its result could join")
        return cls(case, read_header(case.source_header), series or ResultSeries())

    @property
    def model(self) -> ModelIdentity | None:
        """The model that made the finding; None for a case without a finding."""
        finding = self.case.result.finding
        return None if finding is None else finding.model

    @property
    def uid(self) -> str:
        """Study Instance UID (0020,000D)."""
        return str(self.source.StudyInstanceUID)

    @property
    def series_uid(self) -> str:
        """Series Instance UID (0020,000E) of the source."""
        return str(self.source.SeriesInstanceUID)

    def derived_uid(self, role: str) -> str:
        """UID of an object or a series of this result, derived from the case's key, the model and the role."""
        return derived_uid(self.case.key, self.model, role)

    @cached_property
    def analysed(self) -> tuple[str, str]:
        """Date (DA) and time (TM), in the zone that the copied Timezone Offset From UTC (0008,0201) declares for the object."""
        moment = self.case.analysed_at
        offset = str(self.source.get("TimezoneOffsetFromUTC") or "").strip()
        if len(offset) == 5 and offset[0] in "+-" and offset[1:].isdigit():
            minutes = int(offset[1:3]) * 60 + int(offset[3:])
            moment = moment.astimezone(timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes)))
        return f"{moment:%Y%m%d}", f"{moment:%H%M%S}"

    def anchor(self) -> Dataset:
        """A minimal source instance for the constructors of highdicom: class, UIDs and modality.

        Patient and study are empty; `finish` copies them from the source byte for byte.
        """
        ds = Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, self.source.get("SOPInstanceUID") or self.derived_uid("anchor")
        ds.StudyInstanceUID, ds.SeriesInstanceUID = self.uid, self.series_uid
        ds.Modality = "CT"
        ds.PatientName = ds.PatientID = ds.AccessionNumber = ds.StudyID = ds.ReferringPhysicianName = ""
        ds.PatientBirthDate = ds.PatientSex = ds.StudyDate = ds.StudyTime = None
        return ds

    def finish(self, ds: Dataset, kind: ObjectKind) -> bytes:
        """Fill in patient, study, series, equipment and times, and write the file (PS3.10, Explicit VR Little Endian)."""
        model, revision = self.model, self.case.revision
        for keyword in ("SpecificCharacterSet", "TimezoneOffsetFromUTC"):
            if keyword in ds:
                delattr(ds, keyword)
        copy_source(self.source, ds, image=kind not in (ObjectKind.SR, ObjectKind.KOS))
        ds.SeriesInstanceUID = self.derived_uid(f"{kind}-series")
        ds.SeriesNumber = series_number(self.series, kind, revision)
        ds.SeriesDescription = series_description(self.series, kind, revision)

        ds.Manufacturer = self.series.manufacturer
        ds.SoftwareVersions = [__version__] if model is None else [__version__, as_ascii(wording.model(model))[:64]]
        if model is not None:
            ds.ManufacturerModelName = model_name(model)

        for equipment in ds.get("ContributingEquipmentSequence", ()):
            equipment.pop("ContributionDateTime", None)  # highdicom writes the present time

        date, time = self.analysed
        ds.InstanceCreationDate = ds.SeriesDate = ds.ContentDate = date
        ds.InstanceCreationTime = ds.SeriesTime = ds.ContentTime = time

        ds.file_meta = FileMetaDataset()
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta.ImplementationClassUID = IMPLEMENTATION_UID
        ds.file_meta.ImplementationVersionName = f"COREWATCH_{__version__}"[:16]
        keep_bytes(ds)
        buffer = BytesIO()
        dcmwrite(buffer, ds, enforce_file_format=True)
        return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class EncodedInstance:
    """One SOP instance as the bytes of a DICOM file (PS3.10)."""

    kind: ObjectKind
    instance_number: int
    sop_class_uid: str
    sop_instance_uid: str
    data: bytes


def model_name(model: ModelIdentity) -> str:
    """Manufacturer's Model Name (0008,1090): the name of the model, 64 characters of ASCII at most."""
    return as_ascii(model.name)[:64]
