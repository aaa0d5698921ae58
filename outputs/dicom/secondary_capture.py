"""Pages as DICOM Secondary Capture Image Storage (PS3.3 A.8.1), which every PACS and every viewer shows.

All pages of one result are one series in the source's study.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from corewatch import RESEARCH_LABEL, __version__
from outputs import wording
from outputs.case import ReportedCase
from outputs.dicom.encoding import EncodedInstance, Study
from outputs.dicom.object_kinds import ObjectKind, as_ascii
from outputs.dicom.references import source_images
from outputs.pages.axial_slices import RgbArray


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """One page, which becomes one instance.

    Attributes
    ----------
    pixels
        uint8, shape (rows, columns, 3), RGB.
    role
        Name that is unique within the result, for its UID: ``summary``, ``overlay-63``.
    comment
        For Image Comments (0020,4000), after the research label. ASCII.
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


def encode(study: Study, pages: Iterable[Page]) -> Iterator[EncodedInstance]:
    """One Secondary Capture for each page, Instance Number (0020,0013) from 1."""
    references = source_images(study.case.source_instances)
    for number, page in enumerate(pages, start=1):
        dataset = _dataset(study, page, number)
        if references is not None:
            dataset[references.tag] = references
        yield EncodedInstance(
            ObjectKind.SC, number, str(dataset.SOPClassUID), str(dataset.SOPInstanceUID), study.finish(dataset, ObjectKind.SC)
        )


def _dataset(study: Study, page: Page, number: int) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.SOPInstanceUID = study.derived_uid(f"sc-{page.role}")
    # the modality that acquired the source data (PS3.3 C.7.3.1.1.1), so that the hanging protocols of its study apply
    ds.Modality = "CT"
    ds.ConversionType = "WSD"
    ds.BodyPartExamined = "HEAD"
    ds.InstanceNumber = number
    ds.PatientOrientation = list(page.orientation) if page.orientation else None

    ds.SecondaryCaptureDeviceManufacturer = study.series.manufacturer
    ds.SecondaryCaptureDeviceSoftwareVersions = __version__
    ds.DateOfSecondaryCapture, ds.TimeOfSecondaryCapture = study.analysed

    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.ContentQualification = "RESEARCH"
    # "sufficient burned in annotation to identify the patient" (PS3.3 C.7.6.1): text is burnt in, but nothing that names a patient
    ds.BurnedInAnnotation = "NO"
    ds.ImageComments = as_ascii(f"{RESEARCH_LABEL}. {page.comment}".strip())
    ds.DerivationDescription = as_ascii(_derivation(study.case))[:1024]

    ds.SamplesPerPixel = 3
    ds.PhotometricInterpretation = "RGB"
    ds.PlanarConfiguration = 0
    ds.Rows, ds.Columns = page.pixels.shape[:2]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    if page.millimetres_per_pixel is not None:
        ds.PixelSpacing = [page.millimetres_per_pixel] * 2
    data = page.pixels.tobytes()
    ds.add_new("PixelData", "OB", data + b"\0" * (len(data) % 2))
    return ds


def _derivation(case: ReportedCase) -> str:
    finding = case.result.finding
    if finding is None:
        return "Notice that the series was not analysed."
    model = wording.model_for_readers(finding.model)
    text = f"Estimate of the ischemic core by model {model} on the CT angiography, aligned rigidly. "
    text += f"Volume {wording.volume(finding)}" + f", {wording.ranges(finding)}" + f", {wording.side(finding)}."
    return f"{text} {RESEARCH_LABEL}."
