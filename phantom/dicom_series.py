"""A phantom head as the CTA series that a scanner would send: single-frame CT Image Storage objects (PS3.3 A.3).

Everything that names a person says that there is none. UIDs, pixels and attributes depend on the arguments alone.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from corewatch import RESEARCH_LABEL, __version__
from corewatch.findings import Side
from corewatch.geometry import Matrix
from corewatch.identity import derived_uid
from phantom.head import PhantomHead
from phantom.scan import STORED_NOISE_HU, Acquisition, Scan, place, slabs

_INTERCEPT: Final = -1024
_EPOCH: Final = datetime(2026, 1, 5, 10, 15, tzinfo=UTC)
"""When phantoms are scanned unless the caller says otherwise: the output depends on no clock."""


@dataclass(frozen=True, slots=True)
class Patient:
    """The patient module (PS3.3 C.7.1.1) and the patient's part of the study, of nobody."""

    name: str = "Phantom^Synthetic"
    patient_id: str = "PHANTOM0001"
    birth_date: str = "19500101"
    sex: str = "O"
    accession_number: str = "PHANTOM"


@dataclass(frozen=True, slots=True, eq=False)
class SeriesTruth:
    """What a written series really is.

    Attributes
    ----------
    lps_to_network
        Scanner LPS mm -> network voxel: what an alignment should find.
    voxel_to_lps
        Voxel (column, row, slice) -> LPS mm; slices count from feet to head whatever the order of the instance numbers.
    core_ml, side
        Volume of the core in mL and its side.
    files
        The instances by instance number.
    """

    study_uid: str
    series_uid: str
    frame_of_reference_uid: str
    lps_to_network: Matrix
    voxel_to_lps: Matrix
    core_ml: float
    side: Side
    head_seed: int
    acquisition: Acquisition
    files: tuple[Path, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON types, file names without their folder."""
        return {
            "study_uid": self.study_uid,
            "series_uid": self.series_uid,
            "frame_of_reference_uid": self.frame_of_reference_uid,
            "scanner_lps_mm_to_network_voxel": self.lps_to_network.tolist(),
            "voxel_to_lps_mm": self.voxel_to_lps.tolist(),
            "core_ml": self.core_ml,
            "side": str(self.side),
            "head_seed": self.head_seed,
            "acquisition": asdict(self.acquisition),
            "files": [path.name for path in self.files],
        }

    def save(self, path: Path) -> None:
        """Write the truth as JSON; not into the folder of the series, where it would be taken for an instance."""
        path.write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")


def write_series(
    head: PhantomHead,
    out: Path,
    *,
    slices: int = 400,
    coverage_mm: float = 200.0,
    matrix: int = 512,
    pixel_mm: float | None = None,
    degrees: float = 8.0,
    millimetres: float = 10.0,
    noise_hu: float = STORED_NOISE_HU,
    holder: bool = True,
    seed: int = 0,
    descending: bool = False,
    syntax: str = ExplicitVRLittleEndian,
    patient: Patient | None = None,
    acquired: datetime = _EPOCH,
    series_description: str = "CTA HEAD 0.5 Hr38",
    series_number: int = 4,
    uid_salt: str = "",
) -> SeriesTruth:
    """Scan a phantom and write its series into the folder `out`, which is made if absent.

    Parameters
    ----------
    slices, coverage_mm, matrix, pixel_mm, degrees, millimetres, noise_hu, holder, seed
        See `phantom.scan.Acquisition`. Without `pixel_mm` the field of view is 246 mm whatever the matrix.
    descending
        Number the instances from the vertex down instead of upwards.
    syntax
        UID of the transfer syntax; compressed ones must be lossless and known to pydicom's encoders.
    acquired
        When the scan began; with a time zone.
    uid_salt
        Another salt gives the same images other UIDs, as if the patient had been scanned again.
    """
    pixel = 245.76 / matrix if pixel_mm is None else pixel_mm
    acquisition = Acquisition(slices, coverage_mm, matrix, pixel, degrees, millimetres, noise_hu, holder, seed)
    patient = Patient() if patient is None else patient
    scan = place(head, acquisition)
    key = json.dumps([asdict(head.spec), asdict(acquisition), asdict(patient), series_description, series_number, uid_salt])
    study_key = json.dumps([asdict(head.spec), asdict(patient), seed, uid_salt])
    uids = {
        "study": derived_uid(study_key, None, "phantom-study"),
        "frame": derived_uid(study_key, None, "phantom-frame-of-reference"),
        "series": derived_uid(key, None, "phantom-series"),
    }
    common = _common_attributes(head, scan, patient, acquired, uids)
    common.SeriesDescription, common.SeriesNumber = series_description, series_number

    out.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    for start, hu in slabs(head, scan):
        for k in range(len(hu)):
            number = slices - start - k if descending else start + k + 1
            path = out / f"IM{number:05d}.dcm"
            dataset = _instance(common, scan, start + k, number, derived_uid(key, None, f"phantom-instance-{start + k}"), acquired)
            _set_pixels(dataset, hu[k], syntax)
            dataset.save_as(path, enforce_file_format=True)
            files.append(path)
    return SeriesTruth(
        study_uid=uids["study"],
        series_uid=uids["series"],
        frame_of_reference_uid=uids["frame"],
        lps_to_network=scan.lps_to_network,
        voxel_to_lps=scan.voxel_to_lps,
        core_ml=head.core_ml,
        side=head.side,
        head_seed=head.spec.seed,
        acquisition=acquisition,
        files=tuple(reversed(files) if descending else files),
    )


def _common_attributes(head: PhantomHead, scan: Scan, patient: Patient, acquired: datetime, uids: dict[str, str]) -> Dataset:
    """Attributes that all instances share, in the order of the modules of PS3.3 A.3.3."""
    acquisition = scan.acquisition
    date, time = acquired.strftime("%Y%m%d"), acquired.strftime("%H%M%S")
    d = Dataset()
    d.SpecificCharacterSet = "ISO_IR 192"
    d.TimezoneOffsetFromUTC = acquired.strftime("%z")
    # Patient, Patient Study
    d.PatientName, d.PatientID = patient.name, patient.patient_id
    d.PatientBirthDate, d.PatientSex = patient.birth_date, patient.sex
    d.PatientComments = "Synthetic phantom, no patient"
    if patient.birth_date:
        d.PatientAge = f"{max(acquired.year - int(patient.birth_date[:4]), 0):03d}Y"
    # General Study
    d.StudyInstanceUID, d.StudyDate, d.StudyTime = uids["study"], date, time
    d.ReferringPhysicianName, d.StudyID, d.AccessionNumber = "", "1", patient.accession_number
    d.StudyDescription = "CTA HEAD (PHANTOM)"
    # General Series, Frame of Reference
    d.Modality, d.SeriesInstanceUID = "CT", uids["series"]
    d.SeriesDate, d.SeriesTime = date, time
    d.ProtocolName, d.BodyPartExamined, d.PatientPosition = "CTA Head", "HEAD", "HFS"
    d.FrameOfReferenceUID, d.PositionReferenceIndicator = uids["frame"], ""
    # General Equipment
    d.Manufacturer, d.ManufacturerModelName = "corewatch", "Synthetic phantom"
    d.SoftwareVersions, d.DeviceSerialNumber = __version__, "0"
    d.InstitutionName, d.StationName = "Phantom Hospital", "PHANTOM"
    # General Image, Contrast/Bolus, CT Image
    d.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    d.AcquisitionNumber, d.AcquisitionDate, d.AcquisitionTime = 1, date, time
    d.ContentDate, d.QualityControlImage, d.BurnedInAnnotation = date, "YES", "NO"
    d.LossyImageCompression = "00"
    d.ImageComments = RESEARCH_LABEL
    d.ContrastBolusAgent, d.ContrastBolusRoute = "IOHEXOL 350", "IV"
    d.ContrastBolusVolume, d.ContrastBolusTotalDose, d.ContrastFlowRate = 70, 70, 5
    d.ContrastBolusIngredient, d.ContrastBolusIngredientConcentration = "IODINE", 350
    d.KVP, d.XRayTubeCurrent, d.ExposureTime, d.Exposure = 100, 250, 500, 125
    d.ScanOptions, d.DataCollectionDiameter, d.ReconstructionDiameter = (
        "HELIX",
        500,
        round(acquisition.matrix * acquisition.pixel_mm, 2),
    )
    d.GantryDetectorTilt, d.RotationDirection, d.ConvolutionKernel = 0, "CW", "Hr38"
    d.FilterType = "FLAT"
    # Image Plane, Image Pixel
    d.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    d.PixelSpacing = [round(acquisition.pixel_mm, 6)] * 2
    d.SliceThickness = d.SpacingBetweenSlices = round(acquisition.slice_mm, 6)
    d.Rows = d.Columns = acquisition.matrix
    d.SamplesPerPixel, d.PhotometricInterpretation, d.PixelRepresentation = 1, "MONOCHROME2", 0
    d.BitsAllocated, d.BitsStored, d.HighBit = 16, 12, 11
    d.RescaleIntercept, d.RescaleSlope, d.RescaleType = _INTERCEPT, 1, "HU"
    d.WindowCenter, d.WindowWidth, d.WindowCenterWidthExplanation = [300, 40], [700, 80], ["ANGIO", "BRAIN"]
    return d


def _instance(common: Dataset, scan: Scan, k: int, number: int, uid: str, acquired: datetime) -> Dataset:
    """The instance of slice `k` (from feet to head) under instance number `number`."""
    d = Dataset()
    d.update(common)
    d.SOPClassUID, d.SOPInstanceUID, d.InstanceNumber = CTImageStorage, uid, number
    d.ContentTime = (acquired + timedelta(seconds=10, milliseconds=10 * k)).strftime("%H%M%S.%f")
    position = (scan.voxel_to_lps @ (0, 0, k, 1))[:3]
    d.ImagePositionPatient = [round(float(v), 4) for v in position]
    d.SliceLocation = round(float(position[2]), 4)
    return d


def _set_pixels(dataset: Dataset, hu: NDArray[np.int16], syntax: str) -> None:
    """Store HU of shape (rows, columns), each -1024 to 3071, in the transfer syntax; adds the file meta information."""
    stored = (hu - _INTERCEPT).astype("<u2")
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OW"
    if syntax == ExplicitVRLittleEndian:
        return
    target = type(ExplicitVRLittleEndian)(syntax)
    if target.is_compressed and target.is_encapsulated:
        dataset.compress(target, generate_instance_uid=False)
    else:
        dataset.file_meta.TransferSyntaxUID = target
