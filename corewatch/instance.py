"""Header index of one DICOM instance: the attributes that decide about its series.

Free of patient data by construction: no other attribute is stored in the ledger.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

_OF_THE_CASE: Final = frozenset({"scanner", "accession_hash", "patient_id_hash"})


@dataclass(frozen=True, slots=True)
class Instance:
    """Header index of one SOP instance.

    Attributes
    ----------
    position_lps
        Image Position (Patient) (0020,0032), mm; None where absent (also for Enhanced multi-frame, whose frames each have one).
    orientation
        Image Orientation (Patient) (0020,0037), row then column direction cosines; None where absent.
    pixel_spacing_mm
        Pixel Spacing (0028,0030): between rows, between columns.
    frames
        Number of Frames (0028,0008), 1 for a single-frame object.
    contrast_agent, contrast_route, contrast_volume
        Contrast/Bolus Agent (0018,0010), Route (0018,1040) and Volume (0018,1041), or the meanings of their code
        sequences: free text.
    multi_energy
        Multi-energy CT Acquisition (0018,9361) is YES.
    temporal_position
        Temporal Position Identifier (0020,0100) or Index (0020,9128).
    kvp
        Tube voltage (0018,0060), kV.
    acquisition_time
        Acquisition Time (0008,0032) as text, without a date.
    instances_in_series
        Number of Series Related Instances (0020,1209), which some PACS add to instances they send; None where absent.
    scanner
        Manufacturer (0008,0070) and model (0008,1090).
    accession_hash, patient_id_hash
        Keyed hashes of Accession Number (0008,0050) and Patient ID (0010,0020), see `corewatch.search_keys`; empty where absent, or
        where the reader was given no key. They belong to the case, not to the index: `to_json` leaves them out.
    """

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    series_uid: str
    study_uid: str
    modality: str = ""
    frame_of_reference_uid: str = ""
    image_type: tuple[str, ...] = ()
    body_part: str = ""
    study_description: str = ""
    series_description: str = ""
    protocol_name: str = ""
    contrast_agent: str = ""
    contrast_route: str = ""
    contrast_volume: str = ""
    multi_energy: bool = False
    temporal_position: int | None = None
    kvp: float | None = None
    acquisition_time: str = ""
    convolution_kernel: str = ""
    series_number: int | None = None
    instance_number: int | None = None
    acquisition_number: int | None = None
    rows: int | None = None
    columns: int | None = None
    frames: int = 1
    position_lps: tuple[float, float, float] | None = None
    orientation: tuple[float, float, float, float, float, float] | None = None
    pixel_spacing_mm: tuple[float, float] | None = None
    slice_thickness_mm: float | None = None
    instances_in_series: int | None = None
    scanner: str = ""
    accession_hash: str = ""
    patient_id_hash: str = ""

    def to_json(self) -> dict[str, Any]:
        """As JSON types, without the hashes and the scanner, which are columns of the case."""
        return {name: value for name, value in asdict(self).items() if name not in _OF_THE_CASE}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Instance:
        """Back from `to_json`, lists turned into tuples again."""
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return cls(**fields)
