"""Pages as DICOM Secondary Capture Image Storage (PS3.3 A.8.1): every PACS and every viewer shows them.

All objects of one result are one series of our own in the patient's study. UIDs, dates and bytes depend on the case alone, so
encoding a case twice gives the same files, and a PACS that gets them twice keeps one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path
from typing import Final

from pydicom import dcmwrite
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from corewatch import RESEARCH_LABEL, __version__
from corewatch.identity import RESULT_SERIES, derived_uid
from outputs import wording
from outputs.case import ReportedCase
from outputs.files import sync_folder, write_atomically
from outputs.slices import RgbArray
from outputs.source import copy_source, keep_bytes, read_header

IMPLEMENTATION_UID: Final = UID(derived_uid("corewatch", None, "implementation-class"))
"""Implementation Class UID (0002,0012)."""

SERIES_NUMBER: Final = 9700
"""Far above what scanners use, so that the results stand at the end of the study."""


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """One picture that becomes one object.

    Attributes
    ----------
    pixels
        uint8, shape (rows, columns, 3), RGB.
    role
        What it is, distinct within the result, for its UID: ``summary``, ``overlay-63``.
    comment
        Goes into Image Comments (0020,4000), behind the research label. ASCII.
    orientation
        Patient Orientation (0020,0020) of the rows and the columns; empty for a page that is no picture of the patient.
    millimetres_per_pixel
        Pixel Spacing (0028,0030); None for a page without one scale.
    """

    pixels: RgbArray
    role: str
    comment: str = ""
    orientation: tuple[str, str] | None = None
    millimetres_per_pixel: float | None = None


@dataclass(frozen=True, slots=True)
class SeriesNaming:
    """How the series stands in the study."""

    number: int = SERIES_NUMBER
    description: str = f"{RESULT_SERIES} (research only)"
    manufacturer: str = "corewatch"


@dataclass(frozen=True, slots=True)
class EncodedInstance:
    """One SOP instance as the bytes of a DICOM file (PS3.10)."""

    instance_number: int
    sop_instance_uid: str
    data: bytes


def encode(case: ReportedCase, pages: Iterable[Page], naming: SeriesNaming | None = None) -> Iterator[EncodedInstance]:
    """One Secondary Capture object for each page, Instance Number from 1 on, in Explicit VR Little Endian.

    Raises
    ------
    ValueError
        If the case has no DICOM source: there is no study to join.
    OperatorNeeded
        If the source header cannot be read.
    """
    if case.source_header is None:
        raise ValueError("a case without a DICOM source has no study that its result could join")
    source = read_header(case.source_header)
    references = _source_images(case.source_instances)
    for number, page in enumerate(pages, start=1):
        dataset = _dataset(case, source, page, number, naming or SeriesNaming())
        if references is not None:
            dataset[references.tag] = references
        keep_bytes(dataset)
        yield EncodedInstance(number, str(dataset.SOPInstanceUID), _file_bytes(dataset))


def write(case: ReportedCase, pages: Iterable[Page], naming: SeriesNaming | None = None) -> tuple[Path, ...]:
    """Encode the pages into the case's `dicom` folder, and only them; the paths, in order of Instance Number."""
    folder = case.folder.dicom
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for instance in encode(case, pages, naming):
        path = folder / f"sc-{instance.instance_number:03d}.dcm"
        write_atomically(path, instance.data, last=False)
        paths.append(path)
    for stale in set(folder.glob("sc-*.dcm")) - set(paths):
        stale.unlink()
    sync_folder(folder)
    return tuple(paths)


def _dataset(case: ReportedCase, source: Dataset, page: Page, number: int, naming: SeriesNaming) -> Dataset:
    finding = case.result.finding
    model = None if finding is None else finding.model
    ds = Dataset()
    copy_source(source, ds)

    ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.SOPInstanceUID = derived_uid(case.key, model, f"sc-{page.role}")
    ds.SeriesInstanceUID = derived_uid(case.key, model, "sc-series")
    # the modality that acquired the data from which the instance was derived (PS3.3 C.7.3.1.1.1), so it hangs with its study
    ds.Modality = "CT"
    ds.ConversionType = "WSD"
    ds.SeriesNumber = naming.number + case.revision - 1
    revision = f", rev. {case.revision}" if case.revision > 1 else ""
    ds.SeriesDescription = _ascii(naming.description + revision)[:64]
    ds.BodyPartExamined = "HEAD"
    ds.InstanceNumber = number
    ds.PatientOrientation = list(page.orientation) if page.orientation else None

    ds.Manufacturer = naming.manufacturer
    ds.SecondaryCaptureDeviceManufacturer = naming.manufacturer
    ds.SecondaryCaptureDeviceSoftwareVersions = __version__
    ds.SoftwareVersions = [__version__] if model is None else [__version__, _ascii(wording.model(model))[:64]]
    if model is not None:
        ds.ManufacturerModelName = _ascii(model.name)[:64]

    date, time = _local(case.analysed_at, source)
    ds.InstanceCreationDate = ds.SeriesDate = ds.ContentDate = ds.DateOfSecondaryCapture = date
    ds.InstanceCreationTime = ds.SeriesTime = ds.ContentTime = ds.TimeOfSecondaryCapture = time

    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.ContentQualification = "RESEARCH"
    # "sufficient burned in annotation to identify the patient" (PS3.3 C.7.6.1): text is burnt in, but nothing that names a patient
    ds.BurnedInAnnotation = "NO"
    ds.ImageComments = _ascii(f"{RESEARCH_LABEL}. {page.comment}".strip())
    ds.DerivationDescription = _ascii(_derivation(case))[:1024]

    ds.SamplesPerPixel = 3
    ds.PhotometricInterpretation = "RGB"
    ds.PlanarConfiguration = 0
    ds.Rows, ds.Columns = page.pixels.shape[:2]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    if page.millimetres_per_pixel is not None:
        ds.PixelSpacing = [page.millimetres_per_pixel] * 2
    data = page.pixels.tobytes()
    ds.add_new("PixelData", "OB", data + b"\0" * (len(data) % 2))

    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.ImplementationClassUID = IMPLEMENTATION_UID
    ds.file_meta.ImplementationVersionName = f"COREWATCH_{__version__}"[:16]
    return ds


def _derivation(case: ReportedCase) -> str:
    finding = case.result.finding
    if finding is None:
        return "Notice that the series was not analysed."
    span = wording.interval(finding)
    model = wording.model_for_readers(finding.model)
    text = f"Estimate of the ischemic core by model {model} on the CT angiography, aligned rigidly. "
    text += f"Volume {wording.volume(finding)}" + (f", 10-90 % range {span}" if span else "") + f", {wording.side(finding)}."
    return f"{text} {RESEARCH_LABEL}."


def _source_images(instances: Sequence[tuple[str, str]]) -> RawDataElement | None:
    """Source Image Sequence (0008,2112), PS3.3 C.7.6.1, encoded; None without instances.

    A CTA has hundreds of source images, and every object of the series names them all: encoding that once instead of once for each
    object saves most of the time that a result takes to encode.
    """
    if not instances:
        return None
    holder = Dataset()
    holder.SourceImageSequence = [_source_item(sop_class, sop_instance) for sop_class, sop_instance in instances]
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, holder)
    items = bytes(buffer.getvalue())[12:]  # behind tag (4), VR (2), reserved (2) and length (4), PS3.5 7.1.2
    return RawDataElement(Tag("SourceImageSequence"), "SQ", len(items), items, 0, False, True)


def _file_bytes(dataset: Dataset) -> bytes:
    """The whole file (PS3.10)."""
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _source_item(sop_class: str, sop_instance: str) -> Dataset:
    purpose = Dataset()  # CID 7202 Source Image Purposes of Reference
    purpose.CodeValue = "121322"
    purpose.CodingSchemeDesignator = "DCM"
    purpose.CodeMeaning = "Source image for image processing operation"
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class
    item.ReferencedSOPInstanceUID = sop_instance
    item.PurposeOfReferenceCodeSequence = [purpose]
    return item


def _local(moment: datetime, source: Dataset) -> tuple[str, str]:
    """Date (DA) and time (TM), in the zone that the copied Timezone Offset From UTC (0008,0201) declares for the whole object."""
    offset = str(source.get("TimezoneOffsetFromUTC") or "").strip()
    if len(offset) == 5 and offset[0] in "+-" and offset[1:].isdigit():
        minutes = int(offset[1:3]) * 60 + int(offset[3:])
        moment = moment.astimezone(timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes)))
    return f"{moment:%Y%m%d}", f"{moment:%H%M%S}"


def _ascii(text: str) -> str:
    """Text that means the same in every Specific Character Set, which is the source's and not ours to choose."""
    return text.encode("ascii", "replace").decode().replace("\\", "/").replace("~", "-")
